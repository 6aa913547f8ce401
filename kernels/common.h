// Shared by every kernel. Activations are buffers read through strides (the X_AT macros that the
// lowering writes above each kernel); weights are RGBA images, one texel = 4 output channels.

// Coordinates are always inside the image, so the address mode is never used; CLAMP_TO_EDGE is the
// one that every device has.
__constant sampler_t TEXELS =
    CLK_NORMALIZED_COORDS_FALSE | CLK_ADDRESS_CLAMP_TO_EDGE | CLK_FILTER_NEAREST;
