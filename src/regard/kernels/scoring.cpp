// The elementwise work of scoring, fused: each block of numbers is read once and stays in the cache meanwhile.
//
// Every function repeats a few lines of Python in regard/layers, which is used wherever these kernels are not. All
// tensors are float32, contiguous and on the CPU. Axes are named as in Python.

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

using at::Tensor;

constexpr int64_t LANES = 16;  // texts, or features, that one step computes side by side

// exp and tanh as polynomials, because a loop over the functions of the C library is not vectorised. Error: 1e-7.
inline float exponential(float x) {
  x = std::min(std::max(x, -87.0f), 88.0f);
  constexpr float SHIFT = 12582912.0f;  // 1.5 * 2^23: a sum with it is a whole number in its lowest bits
  const float shifted = x * 1.44269504f + SHIFT, whole = shifted - SHIFT;
  const float rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  float value = 1.9875691500e-4f;
  value = value * rest + 1.3981999507e-3f;
  value = value * rest + 8.3334519073e-3f;
  value = value * rest + 4.1665795894e-2f;
  value = value * rest + 1.6666665459e-1f;
  value = value * rest + 5.0000001201e-1f;
  value = value * rest * rest + rest + 1.0f;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127) << 23;  // 2^whole
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return value * power;
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

inline float tangent(float x) { return 1.0f - 2.0f / (1.0f + exponential(2.0f * x)); }

inline int64_t grain(int64_t numbers) { return std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(1, numbers)); }

// layers/attention.py: attention. similarity [context, fragment, word, query] -> weights.
Tensor attention(const Tensor& similarity, const Tensor& mask, double temperature, bool clipped, bool normalised) {
  const int64_t contexts = similarity.size(0), fragments = similarity.size(1);
  const int64_t words = similarity.size(2), queries = similarity.size(3);
  Tensor weights = at::empty_like(similarity);
  const float* from = similarity.const_data_ptr<float>();
  const bool* real = mask.const_data_ptr<bool>();
  float* to = weights.mutable_data_ptr<float>();
  const int64_t parts = (queries + LANES - 1) / LANES, rows = fragments * words;
  const float sharpness = static_cast<float>(temperature), slope = clipped ? 0.1f : 1.0f;
  at::parallel_for(0, contexts * parts, grain(rows * LANES), [&](int64_t begin, int64_t end) {
    std::vector<float> buffer(rows * LANES, 0.0f);  // lanes beyond the last query stay zero
    for (int64_t item = begin; item < end; ++item) {
      const int64_t context = item / parts, first = item % parts * LANES, lanes = std::min(LANES, queries - first);
      const int64_t base = context * rows * queries + first;
      const bool* own = real + context * fragments;
      for (int64_t row = 0; row < rows; ++row)
        std::copy_n(from + base + row * queries, lanes, buffer.data() + row * LANES);
      for (int64_t fragment = 0; fragment < fragments; ++fragment) {
        float* block = buffer.data() + fragment * words * LANES;
        float factor[LANES] = {};
        for (int64_t word = 0; word < words; ++word)
#pragma omp simd
          for (int64_t i = 0; i < LANES; ++i) {
            const float value = block[word * LANES + i], clip = std::max(value, slope * value);
            block[word * LANES + i] = clip;
            factor[i] += clip * clip;
          }
#pragma omp simd
        for (int64_t i = 0; i < LANES; ++i)
          factor[i] = normalised ? sharpness / std::sqrt(factor[i] + 1e-16f) : sharpness;
        for (int64_t word = 0; word < words; ++word)
#pragma omp simd
          for (int64_t i = 0; i < LANES; ++i) block[word * LANES + i] *= factor[i];
      }
      for (int64_t word = 0; word < words; ++word) {
        float largest[LANES], sum[LANES] = {};
        std::fill_n(largest, LANES, -std::numeric_limits<float>::max());
        for (int64_t fragment = 0; fragment < fragments; ++fragment)
          if (own[fragment])
#pragma omp simd
            for (int64_t i = 0; i < LANES; ++i)
              largest[i] = std::max(largest[i], buffer[(fragment * words + word) * LANES + i]);
        for (int64_t fragment = 0; fragment < fragments; ++fragment) {
          float* row = buffer.data() + (fragment * words + word) * LANES;
          const float is_real = own[fragment] ? 1.0f : 0.0f;
#pragma omp simd
          for (int64_t i = 0; i < LANES; ++i) {
            row[i] = is_real * exponential(row[i] - largest[i]);
            sum[i] += row[i];
          }
        }
#pragma omp simd
        for (int64_t i = 0; i < LANES; ++i) sum[i] = 1.0f / sum[i];
        for (int64_t fragment = 0; fragment < fragments; ++fragment) {
          const float* row = buffer.data() + (fragment * words + word) * LANES;
          float* out = to + base + (fragment * words + word) * queries;
          for (int64_t i = 0; i < lanes; ++i) out[i] = row[i] * sum[i];
        }
      }
    }
  });
  return weights;
}

// layers/attention.py: attended_cosine, after the product gram @ weights. floor is that of each context.
Tensor cosine(const Tensor& similarity, const Tensor& weights, const Tensor& gathered, const Tensor& floor) {
  const int64_t contexts = similarity.size(0), fragments = similarity.size(1);
  const int64_t width = similarity.size(2) * similarity.size(3);
  Tensor result = at::empty({contexts, similarity.size(2), similarity.size(3)}, similarity.options());
  const float *s = similarity.const_data_ptr<float>(), *w = weights.const_data_ptr<float>();
  const float *g = gathered.const_data_ptr<float>(), *least = floor.const_data_ptr<float>();
  float* out = result.mutable_data_ptr<float>();
  const int64_t parts = (width + LANES - 1) / LANES;
  at::parallel_for(0, contexts * parts, grain(3 * fragments * LANES), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t context = item / parts, first = item % parts * LANES, lanes = std::min(LANES, width - first);
      float products[LANES] = {}, squares[LANES] = {};
      for (int64_t fragment = 0; fragment < fragments; ++fragment) {
        const int64_t at = (context * fragments + fragment) * width + first;
#pragma omp simd
        for (int64_t lane = 0; lane < lanes; ++lane) {
          products[lane] += w[at + lane] * s[at + lane];
          squares[lane] += w[at + lane] * g[at + lane];
        }
      }
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const bool has_direction = squares[lane] > least[context];
        const float scale = has_direction ? 1.0f / std::sqrt(squares[lane]) : 0.0f;
        out[context * width + first + lane] = products[lane] * scale;
      }
    }
  });
  return result;
}

// layers/interaction.py: shift + queries * tanh(scale). attended [context, real, scale and shift], queries [real, dim].
Tensor modulated(const Tensor& attended, const Tensor& queries) {
  const int64_t contexts = attended.size(0), real = queries.size(0), dim = queries.size(1);
  Tensor result = at::empty({contexts, real, dim}, attended.options());
  const float *from = attended.const_data_ptr<float>(), *query = queries.const_data_ptr<float>();
  float* to = result.mutable_data_ptr<float>();
  at::parallel_for(0, contexts * real, grain(3 * dim), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float *scale = from + row * 2 * dim, *shift = scale + dim, *own = query + row % real * dim;
      float* out = to + row * dim;
#pragma omp simd
      for (int64_t i = 0; i < dim; ++i) out[i] = shift[i] + own[i] * tangent(scale[i]);
    }
  });
  return result;
}

// layers/interaction.py: the gate "norm" of GuidanceCell, and mean_max_pool without its scaling to unit length.
// fragments and local [context, real, dim], whole [context, dim], bounds [item + 1] -> [context, item, dim].
Tensor guided_pool(const Tensor& fragments, const Tensor& local, const Tensor& whole, const Tensor& bounds) {
  const int64_t contexts = fragments.size(0), real = fragments.size(1), dim = fragments.size(2);
  const int64_t items = bounds.size(0) - 1;
  Tensor result = at::empty({contexts, items, dim}, fragments.options());
  const float *f = fragments.const_data_ptr<float>(), *l = local.const_data_ptr<float>();
  const float* g = whole.const_data_ptr<float>();
  const int64_t* bound = bounds.const_data_ptr<int64_t>();
  float* to = result.mutable_data_ptr<float>();
  const int64_t numbers = 2 * dim * real / std::max<int64_t>(1, items);
  at::parallel_for(0, contexts * items, grain(numbers), [&](int64_t begin, int64_t end) {
    for (int64_t pair = begin; pair < end; ++pair) {
      const int64_t context = pair / items, item = pair % items, first = bound[item], last = bound[item + 1];
      for (int64_t start = 0; start < dim; start += LANES) {
        const int64_t lanes = std::min(LANES, dim - start);
        const float* global = g + context * dim + start;
        float squares[LANES] = {}, factor[LANES], sum[LANES] = {}, best[LANES];
        for (int64_t place = first; place < last; ++place) {
          const float* row = l + (context * real + place) * dim + start;
#pragma omp simd
          for (int64_t i = 0; i < lanes; ++i) squares[i] += row[i] * global[i] * row[i] * global[i];
        }
        for (int64_t i = 0; i < lanes; ++i) {
          factor[i] = global[i] / std::sqrt(squares[i] + 1e-16f);
          best[i] = -std::numeric_limits<float>::max();
        }
        for (int64_t place = first; place < last; ++place) {
          const int64_t at = (context * real + place) * dim + start;
#pragma omp simd
          for (int64_t i = 0; i < lanes; ++i) {
            const float value = f[at + i] + f[at + i] * l[at + i] * factor[i];
            sum[i] += value;
            best[i] = std::max(best[i], value);
          }
        }
        float* out = to + pair * dim + start;
        const float share = 1.0f / static_cast<float>(std::max<int64_t>(1, last - first));
        for (int64_t i = 0; i < lanes; ++i) out[i] = sum[i] * share + best[i];
      }
    }
  });
  return result;
}

// layers/similarity.py: (first - second)^2. first [pair.., real, dim], second [real, dim] for each of them, or as first.
Tensor squared_difference(const Tensor& first, const Tensor& second) {
  const int64_t dim = first.size(-1), rows = first.numel() / dim, real = second.numel() / dim;
  Tensor result = at::empty_like(first);
  const float *a = first.const_data_ptr<float>(), *b = second.const_data_ptr<float>();
  float* to = result.mutable_data_ptr<float>();
  at::parallel_for(0, rows, grain(3 * dim), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float *own = a + row * dim, *other = b + row % real * dim;
      float* out = to + row * dim;
#pragma omp simd
      for (int64_t i = 0; i < dim; ++i) out[i] = (own[i] - other[i]) * (own[i] - other[i]);
    }
  });
  return result;
}

// layers/pooling.py: unit.
Tensor unit(const Tensor& vectors) {
  const int64_t dim = std::max<int64_t>(1, vectors.size(-1));
  Tensor result = at::empty_like(vectors);
  const float* from = vectors.const_data_ptr<float>();
  float* to = result.mutable_data_ptr<float>();
  at::parallel_for(0, vectors.numel() / dim, grain(2 * dim), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* own = from + row * dim;
      float* out = to + row * dim;
      float largest = 0.0f, square = 0.0f;
#pragma omp simd reduction(max : largest)
      for (int64_t i = 0; i < dim; ++i) largest = std::max(largest, std::fabs(own[i]));
      const float inverse = largest > 0.0f ? 1.0f / largest : 0.0f;  // so that squares neither vanish nor overflow
#pragma omp simd reduction(+ : square)
      for (int64_t i = 0; i < dim; ++i) square += own[i] * inverse * own[i] * inverse;
      const float scale = square > 0.0f ? inverse / std::sqrt(square) : 0.0f;
#pragma omp simd
      for (int64_t i = 0; i < dim; ++i) out[i] = own[i] * scale;
    }
  });
  return result;
}

// models/tvrn.py: one step of the GRU of pairs. x and h [image, text, 3 dim], state [image, text, dim] -> new state.
Tensor gru_step(const Tensor& x, const Tensor& h, const Tensor& state) {
  const int64_t dim = state.size(-1), rows = state.numel() / dim;
  Tensor result = at::empty_like(state);
  const float *a = x.const_data_ptr<float>(), *b = h.const_data_ptr<float>(), *before = state.const_data_ptr<float>();
  float* to = result.mutable_data_ptr<float>();
  at::parallel_for(0, rows, grain(7 * dim), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float *p = a + row * 3 * dim, *q = b + row * 3 * dim, *old = before + row * dim;
      float* out = to + row * dim;
#pragma omp simd
      for (int64_t i = 0; i < dim; ++i) {
        const float reset = sigmoid(p[i] + q[i]), update = sigmoid(p[dim + i] + q[dim + i]);
        const float candidate = tangent(p[2 * dim + i] + reset * q[2 * dim + i]);
        out[i] = candidate + update * (old[i] - candidate);
      }
    }
  });
  return result;
}

}  // namespace

TORCH_LIBRARY(regard, library) {
  library.def("attention(Tensor similarity, Tensor mask, float temperature, bool clipped, bool normalised) -> Tensor");
  library.def("cosine(Tensor similarity, Tensor weights, Tensor gathered, Tensor floor) -> Tensor");
  library.def("modulated(Tensor attended, Tensor queries) -> Tensor");
  library.def("guided_pool(Tensor fragments, Tensor local, Tensor whole, Tensor bounds) -> Tensor");
  library.def("squared_difference(Tensor first, Tensor second) -> Tensor");
  library.def("unit(Tensor vectors) -> Tensor");
  library.def("gru_step(Tensor x, Tensor h, Tensor state) -> Tensor");
}

TORCH_LIBRARY_IMPL(regard, CPU, library) {
  library.impl("attention", TORCH_FN(attention));
  library.impl("cosine", TORCH_FN(cosine));
  library.impl("modulated", TORCH_FN(modulated));
  library.impl("guided_pool", TORCH_FN(guided_pool));
  library.impl("squared_difference", TORCH_FN(squared_difference));
  library.impl("unit", TORCH_FN(unit));
  library.impl("gru_step", TORCH_FN(gru_step));
}
