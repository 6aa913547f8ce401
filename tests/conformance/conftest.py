from tests.device.conftest import device_id, runtime  # noqa: F401
