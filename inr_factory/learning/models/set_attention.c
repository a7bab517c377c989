/* Set attention: A = Q + softmax(Q^T K / scale) V for many short sequences, forward and backward, inside the cache.

   hatch_build.py compiles this file once for each vector width, with VARIANT as the suffix of its functions; the one
   with DISPATCH defined also gets the functions that pick the best that the machine can run. set_attention.py has the
   same in torch. Never with -ffast-math: it folds away the rounding trick of exponential.

   Letters: M maps, F features, H heads, E features of a head, N INRs, d neurons of one, i queries, j keys. Tensors are
   (M, 3 F, N, d), queries, keys and values, and (M, F, N, d); a sequence is one map, head and INR: E rows of d. Rows are
   copied and padded with zeros to whole vectors: "width" floats. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define EXPORT __attribute__((visibility("default")))

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#if defined(__AVX512F__)
#define CHUNK 16 /* features whose rows stay in registers */
#else
#define CHUNK 8
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float loose_vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t int_vec __attribute__((vector_size(4 * LANES)));
typedef float vec4 __attribute__((vector_size(16)));
typedef float loose_vec4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t int_vec4 __attribute__((vector_size(16)));

INLINE vec load(const float *from) { return *(const loose_vec *)from; }
INLINE void store(float *to, vec value) { *(loose_vec *)to = value; }
INLINE vec all(float value) { return value - (vec){0}; }
INLINE vec either(int_vec mask, vec yes, vec no) { return (vec)(((int_vec)yes & mask) | ((int_vec)no & ~mask)); }

/* As _Shape of set_attention.py. */
typedef struct {
    int64_t features, heads, inrs, neurons;
    double scale;
} shape;

/* exp(x) to 2e-7 for x <= 88; NaN stays. x = n ln 2 + f, |f| <= ln 2 / 2; Taylor's terms up to f^7. */
INLINE vec exponential(vec x) {
    const float MAGIC = 12582912.0f; /* 1.5 * 2^23: adding it rounds to whole numbers */
    x = either(x < all(-87.0f), all(-87.0f), x);
    vec shifted = x * 1.44269504f + MAGIC, n = shifted - MAGIC;
    vec f = x - n * 0.693145752f - n * 1.42860677e-6f;
    vec e = f * 1.98412698e-4f + 1.38888889e-3f;
    e = e * f + 8.33333333e-3f;
    e = e * f + 4.16666667e-2f;
    e = e * f + 1.66666667e-1f;
    e = e * f + 0.5f;
    e = e * f + 1.0f;
    e = e * f + 1.0f;
    return (vec)((int_vec)e + ((int_vec)shifted << 23)); /* the low bits of `shifted` are n */
}

/* C[j][:] (+)= sum over c of A[c][:] B[c][j], for `count` rows j of one vector. */
INLINE void outer_chunk(int size, const float *A, const float *B, float *C, int count, size_t width, int add) {
    vec a[CHUNK];
#pragma GCC unroll 16
    for (int c = 0; c < size; c++) a[c] = load(A + c * width);
    for (int j = 0; j < count; j++) {
        vec sum = add ? load(C + j * width) : (vec){0};
#pragma GCC unroll 16
        for (int c = 0; c < size; c++) sum += a[c] * B[c * width + j];
        store(C + j * width, sum);
    }
}

/* C[c][:] = sum over j < count of P[j][:] B[c][j], one vector. */
INLINE void inner_chunk(int size, const float *P, const float *B, float *C, int count, size_t width) {
    vec sum[CHUNK];
#pragma GCC unroll 16
    for (int c = 0; c < size; c++) sum[c] = (vec){0};
    for (int j = 0; j < count; j++) {
        vec p = load(P + j * width);
#pragma GCC unroll 16
        for (int c = 0; c < size; c++) sum[c] += p * B[c * width + j];
    }
#pragma GCC unroll 16
    for (int c = 0; c < size; c++) store(C + c * width, sum[c]);
}

#define IN_CHUNKS(E, CALL)                                                                                          \
    for (int e = 0; e < (E);) {                                                                                     \
        const size_t at = e * width;                                                                                \
        const int left = (E) - e;                                                                                   \
        if (left >= CHUNK) { CALL(CHUNK) e += CHUNK; }                                                              \
        else if (left >= 8) { CALL(8) e += 8; }                                                                     \
        else if (left >= 4) { CALL(4) e += 4; }                                                                     \
        else if (left >= 2) { CALL(2) e += 2; }                                                                     \
        else { CALL(1) e += 1; }                                                                                    \
    }

/* C[j][:] = sum over E rows of A[e][:] B[e][j]. */
static void outer(int E, const float *A, const float *B, float *C, int count, size_t width) {
    for (size_t v = 0; v < width; v += LANES) {
#define CALL(size) outer_chunk(size, A + at + v, B + at, C + v, count, width, e > 0);
        IN_CHUNKS(E, CALL)
#undef CALL
    }
}

/* C[e][:] = sum over j of P[j][:] B[e][j], for E rows. */
static void inner(int E, const float *P, const float *B, float *C, int count, size_t width) {
    for (size_t v = 0; v < width; v += LANES) {
#define CALL(size) inner_chunk(size, P + v, B + at, C + at + v, count, width);
        IN_CHUNKS(E, CALL)
#undef CALL
    }
}

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (const int_vec4){__VA_ARGS__})
#endif
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7

/* to[j][i] = from[i][j], all of width x width. */
static void transpose(const float *from, float *to, size_t width) {
    for (size_t i = 0; i < width; i += 4)
        for (size_t j = 0; j < width; j += 4) {
            vec4 row[4];
            for (int r = 0; r < 4; r++) row[r] = *(const loose_vec4 *)(from + (i + r) * width + j);
            const vec4 a = SHUFFLE(row[0], row[2], LOW), b = SHUFFLE(row[0], row[2], HIGH);
            const vec4 c = SHUFFLE(row[1], row[3], LOW), d = SHUFFLE(row[1], row[3], HIGH);
            *(loose_vec4 *)(to + j * width + i) = SHUFFLE(a, c, LOW);
            *(loose_vec4 *)(to + (j + 1) * width + i) = SHUFFLE(a, c, HIGH);
            *(loose_vec4 *)(to + (j + 2) * width + i) = SHUFFLE(b, d, LOW);
            *(loose_vec4 *)(to + (j + 3) * width + i) = SHUFFLE(b, d, HIGH);
        }
}

/* `count` zeros that begin a cache line, or NULL. */
static float *zeros(size_t count) {
    void *memory;
    if (posix_memalign(&memory, 64, count * sizeof(float))) return NULL;
    return memset(memory, 0, count * sizeof(float));
}

/* E rows of d numbers, `stride` apart, to or from dense rows of width, times a factor. */
static void take(const float *from, size_t stride, float *to, int E, size_t d, size_t width, float factor) {
    for (int e = 0; e < E; e++)
        for (size_t i = 0; i < d; i++) to[e * width + i] = factor * from[e * stride + i];
}

static void put(const float *from, float *to, size_t stride, int E, size_t d, size_t width, float factor,
                const float *added, size_t added_stride) {
    for (int e = 0; e < E; e++)
        for (size_t i = 0; i < d; i++)
            to[e * stride + i] = factor * from[e * width + i] + (added ? added[e * added_stride + i] : 0);
}

typedef struct {
    size_t row, qkv, out, stats; /* numbers between rows; where the sequence begins in each tensor */
} place;

INLINE place place_of(const shape *s, int64_t sequence) {
    const size_t row = s->inrs * s->neurons, E = s->features / s->heads;
    const size_t n = sequence % s->inrs, h = sequence / s->inrs % s->heads, m = sequence / s->inrs / s->heads;
    const size_t inside = h * E * row + n * s->neurons;
    return (place){row, 3 * m * s->features * row + inside, m * s->features * row + inside,
                   2 * sequence * s->neurons};
}

/* A of the sequences begin .. end - 1; stats (M, H, N, 2, d) gets each query's largest score and 1 / sum of exp.
   Returns 0, or 1 where there is no memory. */
int PASTE(set_attention_forward, VARIANT)(const shape *s, const float *qkv, float *out, float *stats, int64_t begin,
                                          int64_t end) {
    const size_t d = s->neurons, width = (d + LANES - 1) / LANES * LANES, part = s->features * s->inrs * d;
    const int E = (int)(s->features / s->heads), keys = (int)d;
    float *Q = zeros((4 * E + d + 2) * width);
    if (!Q) return 1;
    float *K = Q + E * width, *V = K + E * width, *A = V + E * width, *P = A + E * width, *most = P + d * width,
          *share = most + width;
    for (int64_t sequence = begin; sequence < end; sequence++) {
        const place at = place_of(s, sequence);
        take(qkv + at.qkv, at.row, Q, E, d, width, (float)s->scale);
        take(qkv + at.qkv + part, at.row, K, E, d, width, 1);
        take(qkv + at.qkv + 2 * part, at.row, V, E, d, width, 1);
        outer(E, Q, K, P, keys, width);
        for (size_t v = 0; v < width; v += LANES) {
            vec top = load(P + v), sum = {0};
            for (size_t j = 1; j < d; j++) {
                const vec score = load(P + j * width + v);
                top = either(score > top, score, top);
            }
            for (size_t j = 0; j < d; j++) {
                const vec p = exponential(load(P + j * width + v) - top);
                store(P + j * width + v, p);
                sum += p;
            }
            store(most + v, top);
            store(share + v, 1 / sum);
        }
        inner(E, P, V, A, keys, width);
        for (int e = 0; e < E; e++)
            for (size_t v = 0; v < width; v += LANES)
                store(A + e * width + v, load(A + e * width + v) * load(share + v));
        put(A, out + at.out, at.row, E, d, width, 1, qkv + at.qkv, at.row);
        memcpy(stats + at.stats, most, d * sizeof(float));
        memcpy(stats + at.stats + d, share, d * sizeof(float));
    }
    free(Q);
    return 0;
}

/* The gradient of qkv from that of A, `slope`. */
int PASTE(set_attention_backward, VARIANT)(const shape *s, const float *qkv, const float *out, const float *stats,
                                           const float *slope, float *gradient, int64_t begin, int64_t end) {
    const size_t d = s->neurons, width = (d + LANES - 1) / LANES * LANES, part = s->features * s->inrs * d;
    const int E = (int)(s->features / s->heads), count = (int)d;
    float *Q = zeros((5 * E + 3 * width + 3) * width);
    if (!Q) return 1;
    float *K = Q + E * width, *V = K + E * width, *S = V + E * width, *T = S + E * width, *P = T + E * width,
          *D = P + width * width, *turned = D + width * width, *most = turned + width * width, *share = most + width,
          *mean = share + width;
    for (int64_t sequence = begin; sequence < end; sequence++) {
        const place at = place_of(s, sequence);
        take(qkv + at.qkv, at.row, Q, E, d, width, (float)s->scale);
        take(qkv + at.qkv + part, at.row, K, E, d, width, 1);
        take(qkv + at.qkv + 2 * part, at.row, V, E, d, width, 1);
        take(slope + at.out, at.row, S, E, d, width, 1);
        memcpy(most, stats + at.stats, d * sizeof(float));
        memcpy(share, stats + at.stats + d, d * sizeof(float));
        for (size_t i = 0; i < d; i++) mean[i] = 0; /* of a query's gradient of P: S . (A - Q) */
        for (int e = 0; e < E; e++) {
            const float *a = out + at.out + e * at.row, *q = qkv + at.qkv + e * at.row;
            for (size_t i = 0; i < d; i++) mean[i] += S[e * width + i] * (a[i] - q[i]);
        }
        outer(E, K, Q, P, count, width); /* rows are queries, lanes are keys */
        outer(E, V, S, D, count, width);
        for (size_t i = 0; i < d; i++)
            for (size_t v = i * width; v < (i + 1) * width; v += LANES) {
                const vec p = exponential(load(P + v) - most[i]) * share[i];
                store(P + v, p);
                store(D + v, p * (load(D + v) - mean[i]));
            }
        inner(E, P, S, T, count, width);
        put(T, gradient + at.qkv + 2 * part, at.row, E, d, width, 1, NULL, 0);
        inner(E, D, Q, T, count, width);
        put(T, gradient + at.qkv + part, at.row, E, d, width, 1, NULL, 0);
        transpose(D, turned, width);
        inner(E, turned, K, T, count, width);
        put(T, gradient + at.qkv, at.row, E, d, width, (float)s->scale, slope + at.out, at.row);
    }
    free(Q);
    return 0;
}

#ifdef DISPATCH
#define TEXT_(name) #name
#define TEXT(name) TEXT_(name)

/* The sha256 of the file that this was compiled from; compiled_library.py compares it with the one it finds. */
EXPORT const char *built_from(void) { return TEXT(BUILT_FROM); }

#define FORWARD (const shape *, const float *, float *, float *, int64_t, int64_t)
#define BACKWARD (const shape *, const float *, const float *, const float *, const float *, float *, int64_t, int64_t)
#define DECLARE(variant) int PASTE(set_attention_forward, variant) FORWARD; int PASTE(set_attention_backward, variant) BACKWARD;
typedef int forward_function FORWARD;
typedef int backward_function BACKWARD;
#if defined(__x86_64__)
DECLARE(avx2)
DECLARE(avx512)
#define BEST(name)                                                                                                  \
    (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) ? PASTE(name, baseline)                     \
     : !(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&                                 \
         __builtin_cpu_supports("avx512vl"))                                                                        \
         ? PASTE(name, avx2)                                                                                        \
         : PASTE(name, avx512))
#else
#define BEST(name) PASTE(name, baseline)
#endif

/* The functions for the widest vectors that this machine has. */
EXPORT forward_function *best_forward(void) { return BEST(set_attention_forward); }
EXPORT backward_function *best_backward(void) { return BEST(set_attention_backward); }
#endif
