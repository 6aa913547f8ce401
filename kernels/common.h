// Shared by every kernel. Activations are buffers read through strides (the X_AT macros that the
// lowering writes above each kernel); weights are RGBA images, one texel = 4 output channels.
// Texels are read without a sampler: coordinates are always inside the image.
