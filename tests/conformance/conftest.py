from tests.device.conftest import device_id  # noqa: F401
