/* Fused engine: every step of the fit of one INR of sines or ReLUs (forward, backward by hand, Adam, stopping test) inside the cache.

   hatch_build.py compiles this file once for each vector width, with VARIANT as the suffix of its functions, into one
   library; the one with DISPATCH defined also gets the functions that say which of them the machine can run.

   Never with -ffast-math: it folds away the rounding trick of sincospi (z + MAGIC - MAGIC), and every fit ends near
   10 dB without an error.

   Letters: P points, T points of a tile, I inputs, H hidden neurons, O outputs; K is the depth of a matrix product.
   Rows of H numbers are padded with zeros to whole vectors ("width" floats); a neuron that is padding has the weights
   0, so its sine and its gradients are 0, and it stays 0. Where the INR is one of ReLUs, "sine" is max(0, z), "cosine"
   its slope, and omega_0 and half turns are 1.

   No result hangs on the width of a vector: each sum is taken point by point, or input by input, in tiles that are the
   same for all widths, and the one sum over hidden neurons (the outputs) always in 16 partial sums. Widths that have
   fused multiply-add (all but the x86 baseline) are therefore meant to agree to the bit. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define EXPORT(name) __attribute__((visibility("default"))) PASTE(name, VARIANT)

/* LANES of a vector, and the rows of a register block of two vectors: as many as the registers hold. */
#if defined(__AVX512F__)
#define LANES 16
#define BLOCK 8
#elif defined(__AVX__)
#define LANES 8
#define BLOCK 6
#elif defined(__aarch64__)
#define LANES 4
#define BLOCK 8
#else
#define LANES 4
#define BLOCK 6
#endif
#define PARTIAL 16
#define TILE_FLOATS 6144 /* of the activations of a tile: 24 KB, about what the first-level cache keeps, */
#define LEAST_TILE 48    /* but no fewer points, for wide INRs: each panel of weights is read once a tile */
#define MOST_TABLE 65536 /* floats of sines of the two axes of a grid */

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float loose_vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t int_vec __attribute__((vector_size(4 * LANES)));
typedef float vec4 __attribute__((vector_size(16), aligned(4), may_alias));

INLINE vec load(const float *from) { return *(const loose_vec *)from; }
INLINE void store(float *to, vec value) { *(loose_vec *)to = value; }
INLINE vec all(float value) { return value - (vec){0}; } /* x - 0 is x, also for -0 */

/* What to fit; as struct _Problem of fused_cpu.py has it. */
typedef struct {
    int32_t in_dim, out_dim, hidden_dim, num_hidden, num_points, num_steps;
    int32_t batch_points; /* of each step, all once around; all of them: num_points */
    int32_t relu;         /* 1: max(0, z) in place of sin(omega_0 z) */
    int32_t occupancy;    /* 1: outputs are logits of being inside, and what is minimised is the cross-entropy */
    int32_t rows, cols;   /* of the grid that the points are, x fastest; 0 where they are none */
    double omega_0, output_bias, beta_1, beta_2, epsilon, stop_loss;
    double first_factor;     /* of the rate of the first layer: that of its omega_0 to the others' */
    int64_t num_learned;     /* of the first steps, which move by -learned[step] * gradient, and not by Adam */
    const float *learned;    /* (num_learned, D) */
    double momentum;         /* of the hidden matrices, which move by Muon; 0: by Adam, like all else */
    int64_t looks;           /* with batches, so many times around between two looks at the loss */
    double scope;            /* the weight of KL(weights of a layer || N(0, scope_std[layer])) in what is minimised */
    const double *scope_std; /* (num_hidden + 1,) */
} problem;

/* sin(pi z) and cos(pi z), for |z| < 2^22. n = round(z) and z - n are exact; the polynomials (minimax on
   |f| <= 1/2) are good to 1e-7; the lowest bit of n is their sign. Beyond 2^22 finite, and of no meaning. */
INLINE void sincospi(vec z, vec *sine, vec *cosine) {
    const float MAGIC = 12582912.0f; /* 1.5 * 2^23: adding it rounds to whole numbers */
    vec shifted = z + MAGIC, f = z - (shifted - MAGIC), u = f * f;
    int_vec sign = (int_vec)shifted << 31;
    vec s = 7.722012894e-02f * u - 5.980451741e-01f;
    s = s * u + 2.550031377e+00f;
    s = s * u - 5.167706879e+00f;
    s = s * u + 3.141592580e+00f;
    vec c = -2.439671655e-02f * u + 2.349375589e-01f;
    c = c * u - 1.335212057e+00f;
    c = c * u + 4.058709164e+00f;
    c = c * u - 4.934802137e+00f;
    c = c * u + 9.999999998e-01f;
    *sine = (vec)((int_vec)(s * f) ^ sign);
    *cosine = (vec)((int_vec)c ^ sign);
}

/* The second factor of a product: row k of panel j (two vectors wide) lies at base + j * panel + k * row. */
typedef struct {
    const float *base;
    size_t panel, row;
} panels;

/* Rows of a register block: C[r][:] = from[r][:] + sum over k of A[r][k] B[k][:], summed in the order of k. */
INLINE void product_block(int rows, int vectors, const float *A, size_t a_row, size_t a_step, const float *B,
                          size_t b_row, const float *from, size_t from_row, float *C, size_t c_row, int depth) {
    vec sum[BLOCK][2];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[r][v] = load(from + r * from_row + v * LANES);
    for (int k = 0; k < depth; k++) {
        vec b[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) b[v] = load(B + v * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            vec a = all(A[r * a_row]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) sum[r][v] += a * b[v];
        }
        A += a_step, B += b_row;
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) store(C + r * c_row + v * LANES, sum[r][v]);
}

/* C (rows, width) = from + A (rows, K) B (K, width). A[r][k] lies at A + r * a_row + k * a_step, of which one is 1;
   from_row 0 gives every row the same start. The rows are shared out evenly among register blocks. */
INLINE void product(const float *A, size_t a_row, size_t a_step, panels B, const float *from, size_t from_row,
                    float *C, size_t c_row, int rows, int depth, int width) {
    const int blocks = (rows + BLOCK - 1) / BLOCK;
    for (int column = 0; column < width; column += 2 * LANES, B.base += B.panel, from += 2 * LANES, C += 2 * LANES) {
        const int two = width - column > LANES;
        for (int block = 0, r = 0; block < blocks; block++) {
            const int end = (int)((int64_t)rows * (block + 1) / blocks), count = end - r;
#define CASE(n)                                                                                                     \
    case n:                                                                                                         \
        if (two)                                                                                                    \
            product_block(n, 2, A + r * a_row, a_row, a_step, B.base, B.row, from + r * from_row, from_row,         \
                          C + r * c_row, c_row, depth);                                                             \
        else                                                                                                        \
            product_block(n, 1, A + r * a_row, a_row, a_step, B.base, B.row, from + r * from_row, from_row,         \
                          C + r * c_row, c_row, depth);                                                             \
        break;
            switch (count) {
                CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if BLOCK == 8
                CASE(7) CASE(8)
#endif
            }
#undef CASE
            r = end;
        }
    }
}

/* Rows of A are points (a_step 1) or, in gradients, columns of it are (a_row 1): the constant makes the addresses. */
static __attribute__((noinline)) void times(const float *A, size_t a_row, panels B, const float *from, float *C,
                                            size_t c_row, int rows, int depth, int width) {
    if (a_row == 32 && c_row == 32)
        product(A, 32, 1, B, from, 0, C, 32, rows, depth, width);
    else
        product(A, a_row, 1, B, from, 0, C, c_row, rows, depth, width);
}

static __attribute__((noinline)) void add_transposed_times(const float *A, size_t a_step, const float *B, float *C,
                                                           int rows, int depth, int width) {
    panels whole = {B, 2 * LANES, width};
    product(A, 1, a_step, whole, C, width, C, width, rows, depth, width);
}

/* Everything of one fit, in one piece of memory. Layer 0 is kept as (I, width), the hidden layers as (H, width) with
   inputs along the row, the last as (O, width); after each of them its biases, padded likewise. */
typedef struct {
    int inputs, hidden, outputs, layers, width, tile; /* layers: hidden ones */
    size_t size;                                      /* of the parameters with their padding */
    float scale;                                      /* from residuals to the gradient of what is minimised */
    float *value, *gradient, *mean, *square;
    float *forward, *back, *last, *zeros; /* factors of the products of this step, in panels; last: omega_0 W */
    float *forward_bias;
    float *x_sine, *x_cosine, *y_sine, *y_cosine; /* of the axes of a grid */
    float *sine, *cosine, *partial, *residual;    /* of a tile: one (T, width) a layer; (T, 16); (T, O) */
    float *polar[4];                              /* of Muon: (H, width) each */
} work;

INLINE size_t bias_at(const work *w, int layer) { /* of a hidden layer, in value and gradient */
    return (size_t)w->width * (w->inputs + (size_t)layer * (w->hidden + 1));
}
INLINE size_t weight_at(const work *w, int layer) { return layer ? bias_at(w, layer - 1) + w->width : 0; }
INLINE size_t panels_of(const work *w, int depth) { /* floats that a factor of that depth needs */
    const size_t pair = 2 * LANES;
    return (w->width + pair - 1) / pair * pair * depth;
}
INLINE panels packed(const float *base, int depth) {
    return (panels){base, (size_t)depth * 2 * LANES, 2 * LANES};
}

/* Where the pieces lie; the size in floats where base is NULL. Every piece begins at a whole vector of 64 bytes. */
static size_t lay_out(work *w, const problem *p, float *base) {
    size_t at = 0;
    w->inputs = p->in_dim, w->hidden = p->hidden_dim, w->outputs = p->out_dim, w->layers = p->num_hidden;
    w->width = (w->hidden + LANES - 1) / LANES * LANES;
    w->tile = TILE_FLOATS / (2 * w->layers * ((w->hidden + 15) / 16 * 16)); /* alike for all widths of vectors */
    if (w->tile < LEAST_TILE) w->tile = LEAST_TILE;
    if (w->tile > p->num_points) w->tile = p->num_points;
    const size_t padded_outputs = (w->outputs + LANES - 1) / LANES * LANES;
    w->size = weight_at(w, w->layers) + (size_t)w->outputs * w->width + padded_outputs;
    const size_t deeper = w->layers - 1, tile = (size_t)w->tile * w->width;
    const size_t first = panels_of(w, w->inputs), hidden = panels_of(w, w->hidden);
    const size_t table_x = (size_t)p->cols * w->width, table_y = (size_t)p->rows * w->width;
#define PIECE(name, floats) (w->name = base ? base + at : NULL, at += ((size_t)(floats) + 15) / 16 * 16)
    PIECE(value, w->size), PIECE(gradient, w->size), PIECE(mean, w->size), PIECE(square, w->size);
    PIECE(forward, first + deeper * hidden), PIECE(back, deeper * hidden), PIECE(zeros, w->width + LANES);
    PIECE(last, (size_t)w->outputs * w->width), PIECE(forward_bias, (size_t)w->layers * w->width + LANES);
    PIECE(x_sine, table_x), PIECE(x_cosine, table_x), PIECE(y_sine, table_y), PIECE(y_cosine, table_y);
    PIECE(sine, tile * w->layers), PIECE(cosine, tile * w->layers);
    for (int at_polar = 0; p->momentum > 0 && at_polar < 4; at_polar++)
        PIECE(polar[at_polar], (size_t)w->hidden * w->width);
    PIECE(partial, (size_t)w->tile * PARTIAL), PIECE(residual, (size_t)w->tile * w->outputs);
#undef PIECE
    return at;
}

/* The flat layout of SirenSpec to ours (to_flat 0), or back (1). */
static void exchange(work *w, float *flat, int to_flat) {
#define SWAP(ours)                                                                                                  \
    do {                                                                                                            \
        if (to_flat)                                                                                                \
            *flat++ = (ours);                                                                                       \
        else                                                                                                        \
            (ours) = *flat++;                                                                                       \
    } while (0)
    for (int layer = 0; layer < w->layers; layer++) {
        float *weight = w->value + weight_at(w, layer), *bias = w->value + bias_at(w, layer);
        for (int out = 0; out < w->hidden; out++)
            for (int in = 0; in < (layer ? w->hidden : w->inputs); in++)
                SWAP(*(layer ? weight + out * w->width + in : weight + in * w->width + out));
        for (int out = 0; out < w->hidden; out++) SWAP(bias[out]);
    }
    float *weight = w->value + weight_at(w, w->layers), *bias = weight + (size_t)w->outputs * w->width;
    for (int out = 0; out < w->outputs; out++)
        for (int in = 0; in < w->hidden; in++) SWAP(weight[(size_t)out * w->width + in]);
    for (int out = 0; out < w->outputs; out++) SWAP(bias[out]);
#undef SWAP
}

static size_t parameters_of(const work *w) { /* of the flat layout, D */
    const size_t hidden = w->hidden;
    return hidden * (w->inputs + 1) + (w->layers - 1) * hidden * (hidden + 1) + w->outputs * (hidden + 1);
}

/* The factors of this step: weights and biases times omega_0 / pi forward, since sincospi takes half turns, and times
   omega_0 on the way back, so that what arrives at a layer is the gradient of W x + b. */
static void prepare(work *w, const problem *p, const float *coords) {
    const float omega = p->relu ? 1 : (float)p->omega_0;
    const float half_turns = p->relu ? 1 : (float)(p->omega_0 / 3.14159265358979323846);
    const int pair = 2 * LANES, width = w->width, hidden = w->hidden;
    float *forward = w->forward, *back = w->back;
    for (int in = 0; in < w->inputs; in++)
        for (int out = 0; out < width; out++)
            forward[(size_t)(out / pair * w->inputs + in) * pair + out % pair] = half_turns * w->value[in * width + out];
    forward += panels_of(w, w->inputs);
    for (int layer = 0; layer < w->layers; layer++) {
        const float *weight = w->value + weight_at(w, layer), *bias = w->value + bias_at(w, layer);
        for (int out = 0; out < width; out++) w->forward_bias[layer * width + out] = half_turns * bias[out];
        if (layer == 0) continue;
        for (int out = 0; out < hidden; out++) {
            float *to = forward + (size_t)(out / pair) * hidden * pair + out % pair;
            for (int in = 0; in < hidden; in++) to[in * pair] = half_turns * weight[(size_t)out * width + in];
        }
        for (int column = 0; column < width; column += LANES) {
            float *to = back + (size_t)(column / pair) * hidden * pair + column % pair;
            for (int out = 0; out < hidden; out++)
                store(to + out * pair, omega * load(weight + (size_t)out * width + column));
        }
        forward += panels_of(w, hidden), back += panels_of(w, hidden);
    }
    const float *weight = w->value + weight_at(w, w->layers);
    for (int at = 0; at < w->outputs * width; at++) w->last[at] = omega * weight[at];
    const float *first = w->value; /* a grid: sin(a + b) from the sines and cosines of its axes */
    for (int column = 0; p->cols && column < width; column += LANES) {
        const vec wx = half_turns * load(first + column), wy = half_turns * load(first + width + column);
        const vec bias = load(w->forward_bias + column);
        vec s, c;
        for (int x = 0; x < p->cols; x++) {
            sincospi(coords[2 * x] * wx, &s, &c);
            store(w->x_sine + x * width + column, s), store(w->x_cosine + x * width + column, c);
        }
        for (int y = 0; y < p->rows; y++) {
            sincospi(coords[2 * (size_t)y * p->cols + 1] * wy + bias, &s, &c);
            store(w->y_sine + y * width + column, s), store(w->y_cosine + y * width + column, c);
        }
    }
}

/* Sines and cosines of the first hidden layer of a grid, from those of its axes. */
static void grid_layer(work *w, const problem *p, size_t first, int points) {
    size_t y = first / p->cols, x = first % p->cols;
    const int width = w->width;
    for (int point = 0; point < points; point++) {
        const float *xs = w->x_sine + x * width, *xc = w->x_cosine + x * width;
        const float *ys = w->y_sine + y * width, *yc = w->y_cosine + y * width;
        for (int column = 0; column < width; column += LANES) {
            vec sx = load(xs + column), cx = load(xc + column), sy = load(ys + column), cy = load(yc + column);
            vec s = cx * sy, c = sx * sy;
            store(w->sine + point * width + column, sx * cy + s);
            store(w->cosine + point * width + column, cx * cy - c);
        }
        if (++x == (size_t)p->cols) x = 0, y++;
    }
}

static void sines(const float *z, float *sine, float *cosine, int floats) {
    for (int at = 0; at < floats; at += LANES) {
        vec s, c;
        sincospi(load(z + at), &s, &c);
        store(sine + at, s), store(cosine + at, c);
    }
}

static void activations(const problem *p, float *sine, float *cosine, int floats) { /* of what is in `cosine` */
    if (!p->relu) {
        sines(cosine, sine, cosine, floats);
        return;
    }
    for (int at = 0; at < floats; at++) {
        sine[at] = cosine[at] > 0 ? cosine[at] : 0;
        cosine[at] = cosine[at] > 0 ? 1 : 0;
    }
}

/* Residuals of a tile, from its last hidden layer; the sum of their squares. Those of occupancies are of the
   probability, and are the slope of the cross-entropy as they stand. */
static double residuals(work *w, const problem *p, const float *targets, int points) {
    const int width = w->width, outputs = w->outputs;
    const float *hidden = w->sine + (size_t)(w->layers - 1) * w->tile * width;
    const float *weight = w->value + weight_at(w, w->layers), *bias = weight + (size_t)outputs * width;
    double sum = 0;
    for (int out = 0; out < outputs; out++, weight += width) {
        const float offset = bias[out] + (float)p->output_bias;
        for (int point = 0; point < points; point++) {
            vec part[PARTIAL / LANES] = {0};
            for (int column = 0; column < width; column += PARTIAL)
#pragma GCC unroll 4
                for (int v = 0; v < PARTIAL / LANES; v++)
                    if (column + v * LANES < width)
                        part[v] += load(hidden + (size_t)point * width + column + v * LANES) * load(weight + column + v * LANES);
#pragma GCC unroll 4
            for (int v = 0; v < PARTIAL / LANES; v++) store(w->partial + point * PARTIAL + v * LANES, part[v]);
        }
        for (int point = 0; point < points; point++) {
            const vec4 *part = (const vec4 *)(w->partial + point * PARTIAL);
            const vec4 four = (part[0] + part[2]) + (part[1] + part[3]);
            float value = ((four[0] + four[2]) + (four[1] + four[3])) + offset;
            if (p->occupancy) value = 1 / (1 + expf(-value));
            const float residual = value - targets[(size_t)point * outputs + out];
            w->residual[point * outputs + out] = residual;
            sum += (double)residual * residual;
        }
    }
    return sum;
}

/* From the residuals to the gradients of the last layer, and to those of the sums of the last hidden one, which take
   the place of its cosines. For one or two vectors of neurons at once: two hide the latency of each other's sums. */
INLINE void top_columns(work *w, int outputs, int vectors, int column, int points) {
    const int width = w->width;
    const float *sine = w->sine + (size_t)(w->layers - 1) * w->tile * width + column;
    float *cosine = w->cosine + (size_t)(w->layers - 1) * w->tile * width + column;
    float *weight_gradient = w->gradient + weight_at(w, w->layers) + column;
    float *bias_gradient = w->gradient + bias_at(w, w->layers - 1) + column;
    vec weight[2][4], sum[2][4], bias[2];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
        bias[v] = load(bias_gradient + v * LANES);
#pragma GCC unroll 4
        for (int o = 0; o < outputs; o++) {
            weight[v][o] = load(w->last + o * width + column + v * LANES);
            sum[v][o] = load(weight_gradient + o * width + v * LANES);
        }
    }
    for (int point = 0; point < points; point++, sine += width, cosine += width) {
        const float *residual = w->residual + point * outputs;
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            vec s = load(sine + v * LANES), slope = residual[0] * weight[v][0];
            sum[v][0] += residual[0] * s;
#pragma GCC unroll 4
            for (int o = 1; o < outputs; o++) slope += residual[o] * weight[v][o], sum[v][o] += residual[o] * s;
            slope *= load(cosine + v * LANES);
            bias[v] += slope;
            store(cosine + v * LANES, slope);
        }
    }
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
        store(bias_gradient + v * LANES, bias[v]);
#pragma GCC unroll 4
        for (int o = 0; o < outputs; o++) store(weight_gradient + o * width + v * LANES, sum[v][o]);
    }
}

/* slope * cosine takes the place of the cosine; its sum goes to the biases. */
static void turn(const float *slope, float *cosine, float *bias_gradient, int points, int width) {
    for (int column = 0; column < width; column += LANES) {
        vec bias = load(bias_gradient + column);
        for (int point = 0; point < points; point++) {
            const size_t at = (size_t)point * width + column;
            const vec product = load(slope + at) * load(cosine + at);
            bias += product;
            store(cosine + at, product);
        }
        store(bias_gradient + column, bias);
    }
}

/* The same at the bottom, where nothing but the sums is needed: weights (I, width) and biases. */
INLINE void bottom_columns(work *w, int inputs, int vectors, int column, const float *slope, const float *coords,
                           int points) {
    const int width = w->width;
    const float *cosine = w->cosine + column;
    float *weight_gradient = w->gradient + column, *bias_gradient = w->gradient + bias_at(w, 0) + column;
    vec sum[2][4], bias[2];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
        bias[v] = load(bias_gradient + v * LANES);
#pragma GCC unroll 4
        for (int in = 0; in < inputs; in++) sum[v][in] = load(weight_gradient + in * width + v * LANES);
    }
    slope += column;
    for (int point = 0; point < points; point++, slope += width, cosine += width, coords += inputs) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            const vec turned = load(slope + v * LANES) * load(cosine + v * LANES);
            bias[v] += turned;
#pragma GCC unroll 4
            for (int in = 0; in < inputs; in++) sum[v][in] += coords[in] * turned;
        }
    }
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
        store(bias_gradient + v * LANES, bias[v]);
#pragma GCC unroll 4
        for (int in = 0; in < inputs; in++) store(weight_gradient + in * width + v * LANES, sum[v][in]);
    }
}

/* For all columns, two vectors at a time, and for the last one alone where it is odd. */
#define BY_COLUMNS(call_two, call_one)                                                                              \
    for (int column = 0; column < w->width; column += 2 * LANES) {                                                  \
        if (w->width - column > LANES)                                                                              \
            call_two;                                                                                               \
        else                                                                                                        \
            call_one;                                                                                               \
    }

static void top(work *w, int points) {
    const int width = w->width, outputs = w->outputs;
    float *weight_gradient = w->gradient + weight_at(w, w->layers);
    float *output_bias_gradient = weight_gradient + (size_t)outputs * width;
    for (int at = 0; at < points * outputs; at++) w->residual[at] *= w->scale;
    for (int o = 0; o < outputs; o++) {
        float part[4] = {0}; /* four chains of additions instead of one */
        for (int point = 0; point < points; point++) part[point % 4] += w->residual[point * outputs + o];
        output_bias_gradient[o] += (part[0] + part[2]) + (part[1] + part[3]);
    }
#define CASE(n)                                                                                                     \
    case n:                                                                                                         \
        BY_COLUMNS(top_columns(w, n, 2, column, points), top_columns(w, n, 1, column, points))                      \
        return;
    switch (outputs) { CASE(1) CASE(2) CASE(3) CASE(4) }
#undef CASE
    float *sine = w->sine + (size_t)(w->layers - 1) * w->tile * width;
    float *cosine = w->cosine + (size_t)(w->layers - 1) * w->tile * width;
    add_transposed_times(w->residual, outputs, sine, weight_gradient, outputs, points, width);
    const panels last = {w->last, 2 * LANES, width};
    times(w->residual, outputs, last, w->zeros, sine, width, points, outputs, width);
    turn(sine, cosine, w->gradient + bias_at(w, w->layers - 1), points, width);
}

static void bottom(work *w, const float *slope, const float *coords, int points) {
#define CASE(n)                                                                                                     \
    case n:                                                                                                         \
        BY_COLUMNS(bottom_columns(w, n, 2, column, slope, coords, points),                                          \
                   bottom_columns(w, n, 1, column, slope, coords, points))                                          \
        return;
    switch (w->inputs) { CASE(1) CASE(2) CASE(3) CASE(4) }
#undef CASE
    turn(slope, w->cosine, w->gradient + bias_at(w, 0), points, w->width);
    add_transposed_times(coords, w->inputs, w->cosine, w->gradient, w->inputs, points, w->width);
}

/* One tile: its sum of squares; where backward, adds its share of the gradients. */
static double tile_pass(work *w, const problem *p, const float *coords, const float *targets, size_t first, int points,
                        int backward) {
    const int width = w->width, hidden = w->hidden, layers = w->layers;
    const size_t tile = (size_t)w->tile * width;
    const float *forward = w->forward, *back = w->back;
    coords += first * w->inputs, targets += first * w->outputs;
    if (p->cols) {
        grid_layer(w, p, first, points);
    } else {
        times(coords, w->inputs, packed(forward, w->inputs), w->forward_bias, w->cosine, width, points, w->inputs, width);
        activations(p, w->sine, w->cosine, points * width);
    }
    forward += panels_of(w, w->inputs);
    for (int layer = 1; layer < layers; layer++, forward += panels_of(w, hidden)) {
        float *sine = w->sine + layer * tile, *cosine = w->cosine + layer * tile;
        times(sine - tile, width, packed(forward, hidden), w->forward_bias + layer * width, cosine, width, points, hidden,
              width);
        activations(p, sine, cosine, points * width);
    }
    const double sum = residuals(w, p, targets, points);
    if (!backward) return sum;

    top(w, points);
    for (int layer = layers - 1; layer > 0; layer--) { /* slopes of a layer's values go where the sines above were */
        float *sine = w->sine + layer * tile, *cosine = w->cosine + layer * tile;
        add_transposed_times(cosine, width, sine - tile, w->gradient + weight_at(w, layer), hidden, points, width);
        times(cosine, width, packed(back + (layer - 1) * panels_of(w, hidden), hidden), w->zeros, sine, width, points,
              hidden, width);
        if (layer > 1)
            turn(sine, cosine - tile, w->gradient + bias_at(w, layer - 1), points, width);
        else
            bottom(w, sine, coords, points);
    }
    if (layers == 1) { /* top has turned the cosines into slopes already, and summed the biases */
        add_transposed_times(coords, w->inputs, w->cosine, w->gradient, w->inputs, points, width);
    }
    return sum;
}

static double pass(work *w, const problem *p, const float *coords, const float *targets, size_t first, size_t end,
                   int backward) {
    double sum = 0;
    for (; first < end; first += w->tile) {
        const int points = end - first < (size_t)w->tile ? (int)(end - first) : w->tile;
        sum += tile_pass(w, p, coords, targets, first, points, backward);
    }
    return sum;
}

/* Adds to the gradient of each layer's weights that of scope * KL(N(mean, variance) || N(0, target)), both of its own n
   weights (weight scope alignment): by mean its slope is mean / target, by variance 1 / (2 target) - 1 / (2 variance). */
static void align_scope(work *w, const problem *p) {
    for (int layer = 0; layer <= w->layers; layer++) {
        const int rows = layer == 0 ? w->inputs : layer < w->layers ? w->hidden : w->outputs;
        const float *value = w->value + weight_at(w, layer);
        float *gradient = w->gradient + weight_at(w, layer);
        const double n = (double)rows * w->hidden, target = p->scope_std[layer] * p->scope_std[layer];
        double mean = 0, variance = 0;
        for (int row = 0; row < rows; row++)
            for (int column = 0; column < w->hidden; column++) mean += value[row * w->width + column];
        mean /= n;
        for (int row = 0; row < rows; row++)
            for (int column = 0; column < w->hidden; column++) {
                const double apart = value[row * w->width + column] - mean;
                variance += apart * apart;
            }
        variance /= n;
        const double slope = 1 / target - 1 / (variance + 1e-12), shift = mean / target;
        for (int row = 0; row < rows; row++)
            for (int column = 0; column < w->hidden; column++) {
                const int at = row * w->width + column;
                gradient[at] += (float)(p->scope * (shift + slope * (value[at] - mean)) / n);
            }
    }
}

/* Adam (Kingma and Ba 2015), the moments as torch.optim.Adam has them. */
static void adam(float *restrict value, float *restrict mean, float *restrict square, const float *restrict gradient,
                 size_t size, float rate, float root, float epsilon, float first, float keep, float second) {
    for (size_t at = 0; at < size; at++) {
        const float g = gradient[at];
        mean[at] += first * (g - mean[at]);
        const float faded = keep * square[at];
        square[at] = (second * g) * g + faded;
        value[at] -= rate * mean[at] / (sqrtf(square[at]) * root + epsilon);
    }
}

/* Muon (Jordan et al. 2024): the step of a hidden matrix is its Nesterov momentum with all singular values brought near 1
   by four Newton-Schulz steps. As in NorMuon (Li et al. 2025) each row is divided by its running size. The entries of the
   step have the mean square 1, so that the rate is that of Adam. */
static void muon(work *w, const problem *p, int layer, float rate, double unbiased) {
    const int hidden = w->hidden, width = w->width;
    const size_t at = weight_at(w, layer), size = (size_t)hidden * width;
    const float momentum = (float)p->momentum;
    float *mean = w->mean + at, *square = w->square + at, *value = w->value + at; /* of square the first of each row */
    float *x = w->polar[0], *y = w->polar[1], *gram = w->polar[2], *second = w->polar[3];
    const float *gradient = w->gradient + at;
    double sum = 0, total = 0;
    for (size_t i = 0; i < size; i++) {
        mean[i] = momentum * mean[i] + gradient[i];
        x[i] = gradient[i] + momentum * mean[i];
    }
    for (size_t i = 0; i < size; i++) sum += (double)x[i] * x[i];
    if (!(sum > 0)) return;
    const float inverse = (float)(1 / sqrt(sum));
    for (size_t i = 0; i < size; i++) x[i] *= inverse;
    for (int step = 0; step < 4; step++) {
        const panels whole = {gram, 2 * LANES, width};
        memset(gram, 0, size * sizeof(float)), memset(second, 0, size * sizeof(float));
        add_transposed_times(x, width, x, gram, hidden, hidden, width);
        add_transposed_times(gram, width, gram, second, hidden, hidden, width);
        for (size_t i = 0; i < size; i++) {
            gram[i] = 2.0315f * second[i] - 4.7750f * gram[i];
            y[i] = 3.4445f * x[i];
        }
        product(x, width, 1, whole, y, width, y, width, hidden, hidden, width);
        float *other = x;
        x = y, y = other;
    }
    for (int row = 0; row < hidden; row++) {
        double mine = 0;
        for (int i = row * width; i < (row + 1) * width; i++) mine += (double)x[i] * x[i];
        float *size_of_row = square + row * width;
        *size_of_row += (float)((1 - p->beta_2) * (mine / hidden - *size_of_row));
        size_of_row[1] = 1 / (sqrtf(*size_of_row / (float)unbiased) + (float)p->epsilon);
        total += mine * size_of_row[1] * size_of_row[1];
    }
    const float scale = rate * (float)(hidden / sqrt(total));
    for (int row = 0; row < hidden; row++) {
        const float factor = scale * square[row * width + 1];
        for (int i = row * width; i < (row + 1) * width; i++) value[i] -= factor * x[i];
    }
}

/* Fit one INR: coords (P, I), targets (P, O), rates (num_steps,); flat (D,) holds the start values, then the weights
   whose loss, the mean squared error over all points, is given. Stops before an update where the loss is at most
   stop_loss or is not finite, and after num_steps of them; with batches, it is looked at every `looks` times around. The
   number of updates; -1 where there is no memory. */
int32_t EXPORT(fused_fit)(const problem *p, const float *coords, const float *targets, const double *rates, float *flat,
                          float *loss) {
    work w;
    problem own = *p;
    if (own.in_dim != 2 || own.relu || ((int64_t)own.rows + own.cols) * own.hidden_dim * 2 > MOST_TABLE) own.rows = own.cols = 0;
    const size_t floats = lay_out(&w, &own, NULL);
    float *memory = aligned_alloc(64, floats * sizeof(float));
    if (memory == NULL) return -1;
    memset(memory, 0, floats * sizeof(float));
    lay_out(&w, &own, memory);
    float *learned = NULL; /* in our layout */
    if (own.num_learned > 0) {
        learned = malloc(own.num_learned * w.size * sizeof(float));
        if (learned == NULL) {
            free(memory);
            return -1;
        }
        const size_t parameters = parameters_of(&w);
        for (int64_t at = 0; at < own.num_learned; at++) {
            exchange(&w, (float *)own.learned + at * parameters, 0);
            memcpy(learned + at * w.size, w.value, w.size * sizeof(float));
        }
    }
    exchange(&w, flat, 0);
    const int64_t total = own.num_points, batch = own.batch_points, around = (total + batch - 1) / batch;
    w.scale = (float)((own.occupancy ? 1.0 : 2.0) / ((double)batch * own.out_dim));
    double power_1 = 1, power_2 = 1;
    int32_t step = 0;
    for (;; step++) {
        prepare(&w, &own, coords);
        memset(w.gradient, 0, w.size * sizeof(float));
        const int last = step == own.num_steps;
        if (last || step % (around > 1 ? around * own.looks : 1) == 0) {
            const double sum = pass(&w, &own, coords, targets, 0, total, batch == total && !last);
            *loss = (float)(sum / ((double)total * own.out_dim));
            if (last || !isfinite(*loss) || *loss <= own.stop_loss) break;
        }
        if (batch < total) {
            const int64_t first = step * batch % total, end = first + batch;
            pass(&w, &own, coords, targets, first, end < total ? end : total, 1);
            if (end > total) pass(&w, &own, coords, targets, 0, end - total, 1);
        }
        if (own.scope > 0) align_scope(&w, &own);
        power_1 *= own.beta_1, power_2 *= own.beta_2;
        const int moves = step >= own.num_learned; /* by Adam, which keeps its moments in the learned steps, too */
        const double rate = moves ? rates[step] / (1 - power_1) : 0;
        if (!moves)
            for (size_t at = 0; at < w.size; at++) w.value[at] -= learned[step * w.size + at] * w.gradient[at];
        const int whole = own.momentum > 0 ? w.layers : 1; /* layers that move by themselves; the last part has the others */
        for (int part = 0; part <= whole; part++) {
            size_t at = weight_at(&w, part), end = part < whole ? weight_at(&w, part + 1) : w.size;
            if (own.momentum > 0 && part > 0 && part < w.layers) {
                muon(&w, &own, part, moves ? (float)rates[step] : 0, 1 - power_2);
                at = bias_at(&w, part);
            }
            adam(w.value + at, w.mean + at, w.square + at, w.gradient + at, end - at,
                 (float)(part ? rate : rate * own.first_factor), (float)(1 / sqrt(1 - power_2)), (float)own.epsilon,
                 (float)(1 - own.beta_1), (float)own.beta_2, (float)(1 - own.beta_2));
        }
    }
    exchange(&w, flat, 1);
    free(learned);
    free(memory);
    return step;
}

/* For tests: sin(pi z) and cos(pi z) of count numbers, a multiple of 16. */
void EXPORT(fused_sincospi)(const float *z, float *sine, float *cosine, int32_t count) { sines(z, sine, cosine, count); }

#ifdef DISPATCH
#define TEXT_(name) #name
#define TEXT(name) TEXT_(name)

/* The sha256 of the file that this was compiled from; fused_cpu.py compares it with the one it finds. */
__attribute__((visibility("default"))) const char *fused_built_from(void) { return TEXT(BUILT_FROM); }

/* Names of the variants that this machine can run, the best first. */
__attribute__((visibility("default"))) const char *fused_variants(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                       __builtin_cpu_supports("avx512vl");
    return avx512 ? "avx512 avx2 baseline" : avx2 ? "avx2 baseline" : "baseline";
#else
    return "baseline";
#endif
}
#endif
