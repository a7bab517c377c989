/* Norm, ReLU and pools of DWS: y = max(0, batch_norm(x)), the largest values of its rows and of its columns, forward and
   backward, in two passes over x each. norm_pools.py has the same in torch.

   x and y are (F, N, d, e): F features, N INRs, tiles of d rows and e columns. rows are (F, N, d), columns (F, N, e). */
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_MACHINE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_MACHINE
#endif
#define LANES 16

/* As _Shape of norm_pools.py; `training` takes the moments of x, else they are given. */
typedef struct {
    int64_t features, inrs, rows, columns, training;
    double eps;
} shape;

/* Sum over a tile of (x - middle)^power, or of (x - middle) g where g is given. */
INLINE double tile_sum(const float *x, const float *g, size_t size, float middle, int power) {
    float sum[LANES] = {0};
    size_t k = 0;
    for (; k + LANES <= size; k += LANES)
        for (size_t v = 0; v < LANES; v++) {
            const float value = x[k + v] - middle;
            sum[v] += g ? value * g[k + v] : power == 2 ? value * value : value;
        }
    double total = 0;
    for (; k < size; k++) {
        const float value = x[k] - middle;
        total += g ? value * g[k] : power == 2 ? value * value : value;
    }
    for (size_t v = 0; v < LANES; v++) total += sum[v];
    return total;
}

/* The first place of a value among e, or e. */
INLINE size_t first_equal(const float *from, size_t e, float value) {
    for (size_t j = 0; j < e; j += LANES) {
        const size_t count = e - j < LANES ? e - j : LANES;
        uint32_t found = 0;
        for (size_t v = 0; v < count; v++) found |= (uint32_t)(from[j + v] == value) << v;
        if (found) return j + (size_t)__builtin_ctz(found);
    }
    return e;
}

/* y, rows and columns of the features begin .. end - 1, and with `training` moments (2, F): mean and variance of each. */
EXPORT FOR_EACH_MACHINE void norm_pools_forward(const shape *s, const float *x, const float *gain, const float *shift,
                                                float *moments, float *y, float *rows, float *columns, int64_t begin,
                                                int64_t end) {
    const size_t N = s->inrs, d = s->rows, e = s->columns, size = d * e;
    for (int64_t f = begin; f < end; f++) {
        float *mean = moments + f, *variance = moments + s->features + f;
        if (s->training) { /* the moments of tiles, merged: Chan et al. 1979 */
            double middle = 0, spread = 0;
            for (size_t n = 0; n < N; n++) {
                const float *tile = x + (f * N + n) * size;
                const double mine = tile_sum(tile, NULL, size, 0, 1) / size, gap = mine - middle;
                const double rest = tile_sum(tile, NULL, size, (float)mine, 2);
                middle += gap / (n + 1);
                spread += rest + gap * gap * size * n / (n + 1);
            }
            *mean = (float)middle;
            *variance = (float)(spread / ((double)N * size));
        }
        const float a = gain[f] / (float)sqrt(*variance + s->eps), b = shift[f] - *mean * a;
        for (size_t n = 0; n < N; n++) {
            const size_t tile = (f * N + n) * size;
            float *column = columns + (f * N + n) * e;
            for (size_t j = 0; j < e; j++) column[j] = -INFINITY;
            for (size_t i = 0; i < d; i++) {
                const float *from = x + tile + i * e;
                float *to = y + tile + i * e, most[LANES], largest = -INFINITY;
                for (size_t v = 0; v < LANES; v++) most[v] = -INFINITY;
                for (size_t j = 0; j < e; j++) {
                    const float value = a * from[j] + b;
                    to[j] = value < 0 ? 0 : value; /* NaN stays */
                    column[j] = to[j] > column[j] ? to[j] : column[j];
                }
                size_t j = 0;
                for (; j + LANES <= e; j += LANES)
                    for (size_t v = 0; v < LANES; v++) most[v] = to[j + v] > most[v] ? to[j + v] : most[v];
                for (; j < e; j++) largest = to[j] > largest ? to[j] : largest;
                for (size_t v = 0; v < LANES; v++) largest = most[v] > largest ? most[v] : largest;
                rows[(f * N + n) * d + i] = largest;
            }
        }
    }
}

/* The gradients of x, gain and shift from those of y, rows and columns. A largest value has its gradient from the first
   entry that has it, one that is 0 has none. */
EXPORT FOR_EACH_MACHINE void norm_pools_backward(const shape *s, const float *x, const float *gain, const float *moments,
                                                 const float *y, const float *rows, const float *columns,
                                                 const float *to_y, const float *to_rows, const float *to_columns,
                                                 float *to_x, float *to_gain, float *to_shift, float *left,
                                                 int64_t begin, int64_t end) {
    const size_t N = s->inrs, d = s->rows, e = s->columns, size = d * e;
    left += begin * e; /* (F, e): what the largest values of a tile's columns still have to give */
    for (int64_t f = begin; f < end; f++) {
        const float mean = moments[f], inverse = 1 / (float)sqrt(moments[s->features + f] + s->eps);
        double sum = 0, product = 0;
        for (size_t n = 0; n < N; n++) {
            const size_t tile = (f * N + n) * size, row = (f * N + n) * d, column = (f * N + n) * e;
            const float *value = y + tile;
            float *slope = to_x + tile;
            for (size_t j = 0; j < e; j++) left[j] = columns[column + j] > 0 ? to_columns[column + j] : 0;
            for (size_t i = 0; i < d; i++) {
                const float *mine = value + i * e, *above = to_y + tile + i * e;
                const float largest = rows[row + i] > 0 ? rows[row + i] : INFINITY;
                for (size_t j = 0; j < e; j++) {
                    const int first = mine[j] == columns[column + j];
                    slope[i * e + j] = (mine[j] > 0 ? above[j] : 0) + (first ? left[j] : 0);
                    left[j] = first ? 0 : left[j];
                }
                const size_t at = first_equal(mine, e, largest);
                if (at < e) slope[i * e + at] += to_rows[row + i];
            }
            sum += tile_sum(slope, NULL, size, 0, 1);
            product += tile_sum(x + tile, slope, size, mean, 1);
        }
        to_gain[f] = (float)(product * inverse);
        to_shift[f] = (float)sum;
        const float a = gain[f] * inverse, share = s->training ? 1 / ((float)N * size) : 0;
        const float flat = a * (float)sum * share, steep = a * inverse * inverse * (float)product * share;
        if (a == 1 && !s->training) continue;
        for (size_t k = f * N * size; k < (f + 1) * N * size; k++)
            to_x[k] = a * to_x[k] - flat - steep * (x[k] - mean);
    }
}

#define TEXT_(name) #name
#define TEXT(name) TEXT_(name)

/* The sha256 of the file that this was compiled from; compiled_library.py compares it with the one it finds. */
EXPORT const char *built_from(void) { return TEXT(BUILT_FROM); }
