/* Assignments: many small linear assignment problems, each solved exactly by shortest augmenting paths (Jonker and
   Volgenant, Computing 38, 1987), from prices that a few Sinkhorn iterations guess.

   hatch_build.py compiles this file. Letters: N problems of H rows and H columns. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("avx2", "default")))
#else
#define CLONES
#endif

/* Memory for one problem. cost (H, H) is what each pair costs, price (H,) of a column; column_of a row and row_of a
   column are -1 while they have no partner. */
typedef struct {
    int64_t size;
    double *cost, *price, *distance;
    float *rough;
    int64_t *column_of, *row_of, *unmatched, *from, *columns;
} problem;

/* About e^x for -80 < x <= 0, by the bits of a float (Schraudolph 1999): good to 6 %, which is enough for a guess. */
static inline __attribute__((always_inline)) float rough_exp(float x) {
    const union {
        int32_t bits;
        float value;
    } made = {(int32_t)((x * 1.44269504f + 126.95f) * 8388608.0f)};
    return made.value;
}

/* Costs from gains, less prices of rows and columns that eight Sinkhorn iterations find: every optimum stays where it
   is, but most of it can then be seen at once. */
static inline __attribute__((always_inline)) void guess_prices(problem *p, const float *gains) {
    const int64_t H = p->size;
    float *cost = p->rough, *kernel = cost + H * H, *row_price = kernel + H * H, *column_price = row_price + H;
    for (int64_t j = 0; j < H; j++) column_price[j] = INFINITY;
    for (int64_t i = 0; i < H; i++) {
        float most = -INFINITY;
        for (int64_t j = 0; j < H; j++) most = gains[i * H + j] > most ? gains[i * H + j] : most;
        for (int64_t j = 0; j < H; j++) {
            const float c = cost[i * H + j] = most - gains[i * H + j];
            column_price[j] = c < column_price[j] ? c : column_price[j];
        }
    }
    double total = 0;
    for (int64_t i = 0; i < H; i++)
        for (int64_t j = 0; j < H; j++) total += cost[i * H + j] -= column_price[j];
    const float temperature = (float)(0.1 * total / (double)(H * H)), sharp = 1 / temperature;
    for (int64_t i = 0; i < H; i++) row_price[i] = column_price[i] = 1;
    if (temperature > 1e-30f && sharp > 0) {
        for (int64_t k = 0; k < H * H; k++) {
            const float x = -cost[k] * sharp;
            kernel[k] = rough_exp(x < -60 ? -60 : x);
        }
        for (int turn = 0; turn < 8; turn++) {
            float sums[8];
            for (int64_t i = 0; i < H; i++) {
                int64_t j = 0;
                for (int l = 0; l < 8; l++) sums[l] = 0;
                for (; j + 8 <= H; j += 8)
                    for (int l = 0; l < 8; l++) sums[l] += kernel[i * H + j + l] * column_price[j + l];
                for (; j < H; j++) sums[0] += kernel[i * H + j] * column_price[j];
                row_price[i] = 1 / ((sums[0] + sums[4] + sums[2] + sums[6]) + (sums[1] + sums[5] + sums[3] + sums[7]));
            }
            for (int64_t j = 0; j < H; j++) column_price[j] = 0;
            for (int64_t i = 0; i < H; i++)
                for (int64_t j = 0; j < H; j++) column_price[j] += kernel[i * H + j] * row_price[i];
            for (int64_t j = 0; j < H; j++) column_price[j] = 1 / column_price[j];
        }
    }
    for (int64_t j = 0; j < H; j++) p->price[j] = (double)temperature * logf(column_price[j]);
    for (int64_t i = 0; i < H; i++) {
        const double price = (double)temperature * logf(row_price[i]);
        for (int64_t j = 0; j < H; j++) p->cost[i * H + j] = (double)cost[i * H + j] - price - p->price[j];
    }
}

/* Prices that are the least cost of each row, then of each column; what costs nothing is taken as it comes. */
static inline __attribute__((always_inline)) int64_t match_the_free(problem *p) {
    const int64_t H = p->size;
    int64_t left = 0;
    for (int64_t j = 0; j < H; j++) p->price[j] = INFINITY, p->row_of[j] = -1;
    for (int64_t i = 0; i < H; i++) {
        double *cost = p->cost + i * H, least = INFINITY;
        for (int64_t j = 0; j < H; j++) least = cost[j] < least ? cost[j] : least;
        for (int64_t j = 0; j < H; j++) {
            cost[j] -= least;
            p->price[j] = cost[j] < p->price[j] ? cost[j] : p->price[j];
        }
    }
    for (int64_t i = 0; i < H; i++) {
        const double *cost = p->cost + i * H;
        p->column_of[i] = -1;
        for (int64_t j = 0; j < H && p->column_of[i] < 0; j++)
            if (cost[j] == p->price[j] && p->row_of[j] < 0) p->column_of[i] = j, p->row_of[j] = i;
        if (p->column_of[i] < 0) p->unmatched[left++] = i;
    }
    return left;
}

/* Give a row a column along the shortest path of exchanges, and keep the prices right. */
static inline __attribute__((always_inline)) void augment(problem *p, int64_t start) {
    const int64_t H = p->size;
    int64_t *columns = p->columns, scanned = 0, reached = 0, end = -1; /* scanned | at the least distance | others */
    double least = 0;
    for (int64_t j = 0; j < H; j++) {
        p->distance[j] = p->cost[start * H + j] - p->price[j];
        p->from[j] = start, columns[j] = j;
    }
    int64_t settled = 0;
    while (end < 0) {
        if (scanned == reached) { /* the columns at the next distance */
            settled = scanned;
            least = p->distance[columns[reached++]];
            for (int64_t k = reached; k < H; k++) {
                const int64_t j = columns[k];
                if (p->distance[j] > least) continue;
                if (p->distance[j] < least) reached = scanned, least = p->distance[j];
                columns[k] = columns[reached], columns[reached++] = j;
            }
            for (int64_t k = scanned; k < reached && end < 0; k++)
                if (p->row_of[columns[k]] < 0) end = columns[k];
            if (end >= 0) break;
        }
        const int64_t through = columns[scanned++], row = p->row_of[through];
        const double *cost = p->cost + row * H;
        const double offset = cost[through] - p->price[through] - least;
        for (int64_t k = reached; k < H; k++) {
            const int64_t j = columns[k];
            const double distance = cost[j] - p->price[j] - offset;
            if (distance >= p->distance[j]) continue;
            p->distance[j] = distance, p->from[j] = row;
            if (distance > least) continue;
            if (p->row_of[j] < 0) {
                end = j;
                break;
            }
            columns[k] = columns[reached], columns[reached++] = j;
        }
    }
    for (int64_t k = 0; k < settled; k++) p->price[columns[k]] += p->distance[columns[k]] - least;
    for (int64_t row = -1; row != start;) {
        row = p->from[end];
        p->row_of[end] = row;
        const int64_t before = p->column_of[row];
        p->column_of[row] = end, end = before;
    }
}

/* For each row of gains (N, H, H) the column given to it, (N, H), so that each total gain is the largest. 0, or -1 where
   there is no memory. */
EXPORT CLONES int solve_assignments(const float *gains, int64_t *found, int64_t count, int64_t size) {
    problem p = {.size = size};
    double *numbers = malloc((size_t)(size * size + 2 * size) * sizeof(double));
    int64_t *places = malloc((size_t)(4 * size) * sizeof(int64_t));
    p.rough = malloc((size_t)(2 * size * size + 2 * size) * sizeof(float));
    const int room = numbers != NULL && places != NULL && p.rough != NULL;
    p.cost = numbers, p.price = numbers + size * size, p.distance = p.price + size;
    p.row_of = places, p.unmatched = places + size, p.from = places + 2 * size, p.columns = places + 3 * size;
    for (int64_t n = 0; room && n < count; n++) {
        p.column_of = found + n * size;
        guess_prices(&p, gains + n * size * size);
        const int64_t left = match_the_free(&p);
        for (int64_t k = 0; k < left; k++) augment(&p, p.unmatched[k]);
    }
    free(numbers), free(places), free(p.rough);
    return room ? 0 : -1;
}

#define TEXT_(name) #name
#define TEXT(name) TEXT_(name)

/* The sha256 of the file that this was compiled from. */
EXPORT const char *built_from(void) { return TEXT(BUILT_FROM); }
