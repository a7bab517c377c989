/* Neuron operations: hidden neurons of many INRs reordered, scaled and shifted in one pass, and their canonical form.

   hatch_build.py compiles this file. neuron_ops.py and canonical.py have the same in torch, for other devices and types.
   Letters: N INRs, L hidden layers, H neurons of each, I inputs, O outputs. An INR is flat, as SirenSpec says:
   W_0 (H, I), b_0 (H), W_1 (H, H), b_1 (H), ..., W_L (O, H), b_L (O). */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("avx2", "default")))
#else
#define CLONES
#endif

/* As _Shape of neuron_ops.py. */
typedef struct {
    int64_t count, in_dim, out_dim, hidden, layers;
    int64_t stride; /* floats from one INR to the next of what comes in; what goes out is dense */
} shape;

static inline __attribute__((always_inline)) size_t parameters(const shape *s) {
    const size_t H = s->hidden;
    return H * (s->in_dim + 1) + (s->layers - 1) * H * (H + 1) + s->out_dim * (H + 1);
}

#define MOST_NEURONS 1024

/* Neuron i of a layer becomes the one that was at order[i]; its row and bias times incoming[i], plus shift[i] on the
   bias; its column in the next layer times outgoing[i]. Each (L, N, H), or NULL. */
EXPORT CLONES void change_neurons(const shape *s, const float *from, float *restrict to, const int64_t *order,
                                  const float *incoming, const float *outgoing, const float *shift) {
    const size_t H = s->hidden, all = parameters(s), layer_size = s->count * H;
    float ones[MOST_NEURONS];
    for (size_t i = 0; i < H; i++) ones[i] = 1;
    for (int64_t n = 0; n < s->count; n++, from += s->stride, to += all) {
        const float *in = from;
        float *out = to;
        for (int64_t layer = 0; layer <= s->layers; layer++) {
            const int last = layer == s->layers;
            const size_t rows = last ? s->out_dim : H, columns = layer ? H : s->in_dim;
            const size_t current = layer * layer_size + n * H, previous = current - layer_size;
            const int64_t *row_of = order && !last ? order + current : NULL;
            const int64_t *column_of = order && layer ? order + previous : NULL;
            const float *left = incoming && !last ? incoming + current : ones;
            const float *right = outgoing && layer ? outgoing + previous : NULL;
            const float *bias = in + rows * columns;
            float *out_bias = out + rows * columns;
            size_t i = 0;
            for (; column_of && i + 4 <= rows; i += 4) { /* each look-up serves four rows */
                const float *row[4];
                for (int r = 0; r < 4; r++) row[r] = in + (row_of ? (size_t)row_of[i + r] : i + r) * columns;
                float *restrict target = out + i * columns;
                for (size_t j = 0; j < columns; j++) {
                    const int64_t column = column_of[j];
                    for (int r = 0; r < 4; r++) target[r * columns + j] = row[r][column];
                }
            }
            for (; column_of && i < rows; i++)
                for (size_t j = 0; j < columns; j++)
                    out[i * columns + j] = in[(row_of ? (size_t)row_of[i] : i) * columns + column_of[j]];
            for (i = 0; i < rows; i++) {
                const size_t source = row_of ? (size_t)row_of[i] : i;
                const float factor = last ? 1 : left[i];
                float *restrict target = out + i * columns;
                const float *row = column_of ? target : in + source * columns;
                if (right)
                    for (size_t j = 0; j < columns; j++) target[j] = row[j] * factor * right[j];
                else if (!column_of || left != ones)
                    for (size_t j = 0; j < columns; j++) target[j] = row[j] * factor;
                out_bias[i] = bias[source] * factor;
            }
            if (shift && !last)
                for (size_t i = 0; i < rows; i++) out_bias[i] += shift[current + i];
            in = bias + rows, out = out_bias + rows;
        }
    }
}

/* 1 or -1 as the sum of a row has it, or its first entry that is not 0; 0 for a row of zeros; NaN for one with NaN. */
static inline __attribute__((always_inline)) float side(const float *row, size_t columns) {
    double sum = 0;
    size_t j = 0;
    if (columns >= 8) {
        double part[8] = {0};
        for (; j + 8 <= columns; j += 8)
            for (int k = 0; k < 8; k++) part[k] += row[j + k];
        sum = ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
    }
    for (; j < columns; j++) sum += row[j];
    if (sum != sum) return NAN;
    if (sum != 0) return copysignf(1.0f, (float)sum); /* a branch on it would be mispredicted every second time */
    for (j = 0; j < columns; j++)
        if (row[j] != 0) return row[j] > 0 ? 1.0f : -1.0f;
    return 0.0f;
}

/* Biases less k periods each, in [-1/2 - edge, 1/2 - edge) of one; turn is negated where k is odd. */
static inline __attribute__((always_inline)) void wrap(float *restrict bias, float *restrict turn, size_t count,
                                                       double period, double edge) {
    const double each = 1 / period, inside = 4 * period * 1.1920928955078125e-07; /* rounding may land just outside */
    const float low = (float)((-0.5 - edge) * period + inside), high = (float)((0.5 - edge) * period - inside);
    for (size_t i = 0; i < count; i++) {
        const double b = bias[i], k = floor(b * each + (0.5 + edge));
        const float wrapped = (float)(b - k * period), above = wrapped < low ? low : wrapped;
        bias[i] = above > high ? high : above;
        turn[i] *= (float)(1 - 2 * (k - 2 * floor(0.5 * k)));
    }
}

/* See canonicalize of canonical.py. period is pi / omega_0. */
EXPORT CLONES void canonical_form(const shape *s, const float *from, float *restrict to, double period, double edge) {
    const size_t H = s->hidden, all = parameters(s);
    for (int64_t n = 0; n < s->count; n++, from += s->stride, to += all) {
        float before[MOST_NEURONS], sign[MOST_NEURONS], turn[MOST_NEURONS];
        const float *in = from;
        float *out = to;
        for (int64_t layer = 0; layer < s->layers; layer++) {
            const size_t columns = layer ? H : s->in_dim;
            const float *old = in + H * columns;
            float *restrict bias = out + H * columns;
            int constant = 0;
            for (size_t i = 0; i < H; i++) {
                float *restrict row = out + i * columns;
                if (layer)
                    for (size_t j = 0; j < columns; j++) row[j] = in[i * columns + j] * before[j];
                else
                    for (size_t j = 0; j < columns; j++) row[j] = in[i * columns + j];
                sign[i] = turn[i] = side(row, columns);
                bias[i] = old[i] * sign[i];
                constant |= sign[i] == 0;
                for (size_t j = 0; j < columns; j++) row[j] *= sign[i];
            }
            wrap(bias, turn, H, period, edge);
            for (size_t i = 0; constant && i < H; i++) /* a constant: its phase is brought into [0, 1/2] of a period */
                if (sign[i] == 0) {
                    turn[i] = 1, bias[i] = old[i];
                    wrap(bias + i, turn + i, 1, period, 0.0);
                    if (bias[i] < 0) turn[i] = -turn[i], bias[i] = -bias[i];
                }
            memcpy(before, turn, H * sizeof(float));
            in = old + H, out = bias + H;
        }
        for (int64_t o = 0; o < s->out_dim; o++, in += H, out += H)
            for (size_t j = 0; j < H; j++) out[j] = in[j] * before[j];
        memcpy(out, in, s->out_dim * sizeof(float));
    }
}

#define TEXT_(name) #name
#define TEXT(name) TEXT_(name)

/* The sha256 of the file that this was compiled from. */
EXPORT const char *built_from(void) { return TEXT(BUILT_FROM); }
