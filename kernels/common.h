// Shared by every kernel. Activations are buffers read through strides (the X_AT macros that the
// lowering writes above each kernel); weights are RGBA images, one texel = 4 output channels.
// Texels are read without a sampler: coordinates are always inside the image.
{% if "erf(" in defines %}
// erf without branches, so that a loop over elements becomes vectors (PoCL 3.1, 2026-11: 0.9 ns an
// element; its own erf takes 30). Two least-maximum fits made for this file; at most 2 ulp.
static inline float vector_erf(float x) {
  const float t = fmin(fabs(x), 4.0f), s = t * t;
  float near = fma(7.88912283e-5f, s, -8.02084227e-4f);
  near = fma(near, s, 5.18953545e-3f);
  near = fma(near, s, -2.68544446e-2f);
  near = fma(near, s, 0.112836002f);
  near = fma(near, s, -0.376126271f);
  near = fma(near, s, 0.128379166f);
  near = fma(near, x, x);
  float far = fma(-2.16867632e-5f, t, 4.41335301e-4f);  // log(1 - erf(t))
  far = fma(far, t, -4.20455626e-3f);
  far = fma(far, t, 2.52082408e-2f);
  far = fma(far, t, -0.108418551f);
  far = fma(far, t, -0.633219919f);
  far = fma(far, t, -1.12957841f);
  far = fma(far, t, 1.88037049e-4f);
  far = 1.0f - exp(far);
  far = x < 0.0f ? -far : far;
  const float r = t < 1.0f ? near : far;
  return x != x ? x : r;
}
#undef erf
#define erf(x) vector_erf(x)
{% endif %}
