"""Fused kernel, CUDA: every step of the fit of one SIREN by one Triton program. The only module that imports triton.

A program reads the weights of its INR once a step, runs over tiles of points with activations and the sums of the
gradients in registers and shared memory, and then makes Adam's update on the flat layout of SirenSpec. Weights,
gradients and moments (some KB an INR) lie in global memory between the phases of a step, where each multiprocessor
finds those of its few programs in its caches; of the large arrays, only coords and targets come from there.

Widths are padded with zeros to HP neurons; padding has the weights 0, so its sine is 0 and it stays 0. The layer of
up to FEW inputs is made of multiplications one by one. More inputs are padded to PAD columns for a matrix product;
column I is 1 and carries the biases of the first layer. Outputs are padded to PAD columns. One output alone, the usual
case, is not padded: outputs, residuals and targets are then (T,), the last layer (HP,). Gradients that need no matrix
product are added up point by point, in registers, and reduced once a step.

Only builtins of triton.language are used, none of its own @jit functions (tl.sum, tl.zeros, tl.cdiv): those are bound
to the compiler or to the interpreter when triton is imported, this module when it is itself, so that one process can
have both.

Letters: T points of a tile, H neurons, HP the same with padding, I inputs, O outputs, D parameters, K the depth of a
matrix product.
"""

import triton
import triton.language as tl

PAD: tl.constexpr = tl.constexpr(16)  # the least depth, and number of columns, of a matrix product
FEW: tl.constexpr = tl.constexpr(4)  # inputs whose layer is made of multiplications one by one, not of a matrix product
LARGEST: tl.constexpr = tl.constexpr(3.4028234663852886e38)


@triton.jit
def add(a, b):
    return a + b


INTERPRETED: tl.constexpr = tl.constexpr(not isinstance(add, triton.JITFunction))  # the interpreter runs no assembly


@triton.jit
def sincospi(z):
    """sin(pi z) and cos(pi z) for |z| < 2^22: those of fused.c."""
    shifted = z + 12582912.0  # 1.5 * 2^23: adding it rounds to whole numbers
    f = z - (shifted - 12582912.0)
    u = f * f
    sign = shifted.to(tl.int32, bitcast=True) << 31
    s = 7.722012894e-02 * u - 5.980451741e-01
    s = s * u + 2.550031377e00
    s = s * u - 5.167706879e00
    s = s * u + 3.141592580e00
    c = -2.439671655e-02 * u + 2.349375589e-01
    c = c * u - 1.335212057e00
    c = c * u + 4.058709164e00
    c = c * u - 4.934802137e00
    c = c * u + 9.999999998e-01
    sine = ((s * f).to(tl.int32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)
    cosine = (c.to(tl.int32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)
    return sine, cosine


@triton.jit
def fast_sincospi(z):
    """The same by the sine and cosine of the hardware (PTX ISA, sin.approx): an absolute error of 7e-7."""
    half = 0.5 * z
    angle = 6.283185307 * (half - ((half + 12582912.0) - 12582912.0))
    sine = tl.inline_asm_elementwise("sin.approx.f32 $0, $1;", "=f,f", [angle], tl.float32, True, 1)
    cosine = tl.inline_asm_elementwise("cos.approx.f32 $0, $1;", "=f,f", [angle], tl.float32, True, 1)
    return sine, cosine


@triton.jit
def activation(z, EXACT: tl.constexpr):
    if EXACT or INTERPRETED:
        return sincospi(z)
    else:
        return fast_sincospi(z)


@triton.jit
def split(x):
    """x = high + low, where high has the 11 bits of a TF32 number."""
    high = (x.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
    return high, x - high


@triton.jit
def product(a, b, start, EXACT: tl.constexpr):
    """start + a b, of split factors: three products on the tensor cores, good to about 2^-21, or the first alone."""
    if EXACT:
        start = tl.dot(a[1], b[0], start, input_precision="tf32")
        start = tl.dot(a[0], b[1], start, input_precision="tf32")
    return tl.dot(a[0], b[0], start, input_precision="tf32")


@triton.jit
def added(sums, a, b, EXACT: tl.constexpr):
    """sums + a b. The product starts from 0: tensor cores truncate as they add (Ootomo and Yokota 2022), which would
    draw a sum over all tiles towards 0."""
    return sums + product(a, b, tl.full(sums.shape, 0.0, tl.float32), EXACT)


@triton.jit
def in_layout_of_products(row, T: tl.constexpr, HP: tl.constexpr):
    """row (HP,) unchanged, through the start of a product of zeros. The compiler derives layouts from products: what is
    computed from the result keeps theirs, and does not move between threads before the next product."""
    start = tl.where(tl.arange(0, T)[:, None] == 0, row[None, :], 0.0)
    zeros = tl.full((T, PAD), 0.0, tl.float32), tl.full((PAD, HP), 0.0, tl.float32)
    return tl.reduce(tl.dot(zeros[0], zeros[1], start, input_precision="tf32"), 0, add)


@triton.jit
def read_points(coords, targets, index, valid, I: tl.constexpr, O: tl.constexpr):
    """Inputs, I of (T,) or all in (T, PAD) with ones in column I, and targets (T, PAD) or (T,) of the points of a tile."""
    column = tl.arange(0, PAD)
    point = index.to(tl.int64)
    if I <= FEW:
        inputs = ()
        for i in tl.static_range(I):
            inputs = inputs + (tl.load(coords + point * I + i, mask=valid, other=0.0),)
    else:
        known = valid[:, None] & (column[None, :] < I)
        inputs = tl.load(coords + point[:, None] * I + column[None, :], mask=known, other=0.0)
        inputs = tl.where(column[None, :] == I, 1.0, inputs)
    if O == 1:
        wanted = tl.load(targets + point, mask=valid, other=0.0)
    else:
        known = valid[:, None] & (column[None, :] < O)
        wanted = tl.load(targets + point[:, None] * O + column[None, :], mask=known, other=0.0)
    return inputs, wanted


@triton.jit
def forward(
    inputs, first, deeper, biases, last, offset,
    I: tl.constexpr, O: tl.constexpr, L: tl.constexpr, T: tl.constexpr, HP: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Sines and cosines (T, HP) of each hidden layer, and the outputs (T, PAD) or (T,). Weights of products are split."""
    if I <= FEW:
        z = first[I][None, :] + tl.full((T, HP), 0.0, tl.float32)
        for i in tl.static_range(I):
            z += inputs[i][:, None] * first[i][None, :]
    else:
        z = product(split(inputs), first, tl.full((T, HP), 0.0, tl.float32), True)
    sine, cosine = activation(z, EXACT)
    sines = (sine,)
    cosines = (cosine,)
    for layer in tl.static_range(L - 1):
        z = product(split(sine), deeper[layer], tl.full((T, HP), 0.0, tl.float32), True) + biases[layer][None, :]
        sine, cosine = activation(z, EXACT)
        sines = sines + (sine,)
        cosines = cosines + (cosine,)
    if O == 1:
        outputs = tl.reduce(sine * last[None, :], 1, add) + offset
    else:
        outputs = product(split(sine), last, tl.full((T, PAD), 0.0, tl.float32), True) + offset[None, :]
    return sines, cosines, outputs


@triton.jit
def by_pairs(x, T: tl.constexpr, HP: tl.constexpr):
    """(T, HP) to (T / 16, 8, HP): sums of two points 8 apart, which one thread has in the layout of products."""
    return tl.reduce(tl.reshape(x, (T // 16, 2, 8, HP)), 1, add)


@triton.jit
def over_points(sums, T: tl.constexpr, HP: tl.constexpr):
    """(T / 16, 8, HP) to (HP,)."""
    return tl.reduce(tl.reshape(sums, (T // 2, HP)), 0, add)


@triton.jit
def total(error, O: tl.constexpr):
    if O == 1:
        return tl.reduce(error, 0, add)
    else:
        return tl.reduce(tl.reduce(error, 1, add), 0, add)


@triton.jit
def residuals(outputs, wanted, valid, O: tl.constexpr, OCCUPANCY: tl.constexpr):
    """(T, PAD) or (T,), 0 where there is no point or no output. Those of occupancies are of the probability."""
    if OCCUPANCY:
        outputs = 1.0 / (1.0 + tl.exp(-outputs))
    if O == 1:
        known = valid
    else:
        known = valid[:, None] & (tl.arange(0, PAD)[None, :] < O)
    return tl.where(known, outputs - wanted, 0.0)


@triton.jit(do_not_specialize=["num_points", "num_steps", "batch_points", "coords_stride"])
def fit_kernel(
    coords, targets, flat, mean, square, gradient, rates, stop_loss, loss_out, steps_out,
    num_points, num_steps, batch_points, coords_stride,
    half_turns, omega, output_bias, scale, share, first_weight, second, second_weight, epsilon, first_factor,
    I: tl.constexpr, O: tl.constexpr, H: tl.constexpr, L: tl.constexpr, D: tl.constexpr,
    HP: tl.constexpr, T: tl.constexpr, A: tl.constexpr,
    BATCHES: tl.constexpr, OCCUPANCY: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Fit INR `program_id(0)`: as fused_fit of fused.c, whose stopping rules and sums it has.

    coords (P, I) or (N, P, I), with coords_stride between INRs; targets (N, P, O); flat, mean, square, gradient (N, D),
    the moments 0; rates (num_steps, 2): the rate over its bias correction, and the factor that corrects sqrt(square);
    stop_loss, loss_out, steps_out (N,). scale turns residuals into slopes, share the sum of squares into the loss.
    first_factor multiplies the rate of the first layer. A parameters at a time are updated. EXACT: every product is
    three, sines are polynomials; otherwise the products of
    gradients are one and sines are those of the hardware.
    """
    inr = tl.program_id(0).to(tl.int64)
    coords += inr * coords_stride
    targets += inr * num_points * O
    flat += inr * D
    mean += inr * D
    square += inr * D
    gradient += inr * D
    stop = tl.load(stop_loss + inr)

    neuron = tl.arange(0, HP)
    column = tl.arange(0, PAD)
    tile = tl.arange(0, T)
    real = neuron < H
    # Where weights lie in the flat layout: (PAD, HP), (HP in, HP out) and (HP, PAD).
    is_bias = column[:, None] == I
    at_first = tl.where(is_bias, H * I + neuron[None, :], neuron[None, :] * I + column[:, None])
    in_first = (column[:, None] <= I) & real[None, :]
    at_deeper = H * (I + 1) + neuron[None, :] * H + neuron[:, None]
    in_deeper = real[:, None] & real[None, :]
    at_bias = H * (I + 1) + H * H
    BLOCK: tl.constexpr = H * (H + 1)
    LAST: tl.constexpr = H * (I + 1) + (L - 1) * H * (H + 1)
    at_last = LAST + column[None, :] * H + neuron[:, None]
    in_last = real[:, None] & (column[None, :] < O)
    around = (num_points + batch_points - 1) // batch_points

    step = tl.full((), 0, tl.int32)
    loss = tl.full((), 0.0, tl.float32)
    going = tl.full((), 1, tl.int32)
    while going > 0:
        if I <= FEW:
            first = ()
            for i in tl.static_range(I):
                weights = tl.load(flat + neuron * I + i, mask=real, other=0.0)
                first = first + (half_turns * weights,)
            ones = half_turns * tl.load(flat + H * I + neuron, mask=real, other=0.0)
            first = first + (in_layout_of_products(ones, T, HP),)
        else:
            first = split(half_turns * tl.load(flat + at_first, mask=in_first, other=0.0))
        if O == 1:
            last = tl.load(flat + LAST + neuron, mask=real, other=0.0)
            last_back = omega * last
            offset = tl.load(flat + LAST + H) + output_bias
        else:
            last = tl.load(flat + at_last, mask=in_last, other=0.0)
            last_back = split(omega * tl.trans(last))
            last = split(last)
            offset = tl.load(flat + LAST + O * H + column, mask=column < O, other=0.0) + output_bias
        deeper = ()
        back = ()
        biases = ()
        for layer in tl.static_range(L - 1):
            weights = tl.load(flat + layer * BLOCK + at_deeper, mask=in_deeper, other=0.0)
            deeper = deeper + (split(half_turns * weights),)
            back = back + (split(omega * tl.trans(weights)),)
            biases = biases + (half_turns * tl.load(flat + layer * BLOCK + at_bias + neuron, mask=real, other=0.0),)

        if BATCHES:
            if (step % around == 0) | (step == num_steps):
                error = tl.full((T,) if O == 1 else (T, PAD), 0.0, tl.float32)
                for begin in tl.range(0, num_points, T, num_stages=1):
                    index = begin + tile
                    valid = index < num_points
                    inputs, wanted = read_points(coords, targets, index, valid, I, O)
                    sines, cosines, outputs = forward(
                        inputs, first, deeper, biases, last, offset, I, O, L, T, HP, EXACT
                    )
                    residual = residuals(outputs, wanted, valid, O, OCCUPANCY)
                    error += residual * residual
                loss = share * total(error, O)
                done = (step == num_steps) | (loss <= stop) | ((loss <= LARGEST) == 0)
                going = tl.where(done, 0, 1)

        if going > 0:
            # Gradients: sums of products in the shapes of the weights, others as `by_pairs` has them.
            slopes = tl.full((T, HP), 0.0, tl.float32)
            pairs = tl.full((T // 16, 8, HP), 0.0, tl.float32)
            if I <= FEW:
                to_first = ()
                for _ in tl.static_range(I + 1):
                    to_first = to_first + (pairs,)
            else:
                to_first = tl.full((PAD, HP), 0.0, tl.float32)
            to_last = pairs if O == 1 else tl.full((HP, PAD), 0.0, tl.float32)
            to_offset = tl.full((T,) if O == 1 else (T, PAD), 0.0, tl.float32)
            error = tl.full((T,) if O == 1 else (T, PAD), 0.0, tl.float32)
            to_deeper = ()
            to_bias = ()
            for _ in tl.static_range(L - 1):
                to_deeper = to_deeper + (tl.full((HP, HP), 0.0, tl.float32),)
                to_bias = to_bias + (pairs,)
            begin_at = ((step.to(tl.int64) * batch_points) % num_points).to(tl.int32)

            for begin in tl.range(0, batch_points, T, num_stages=1):
                index = begin + tile
                valid = index < batch_points
                if BATCHES:
                    index = begin_at + index
                    index = tl.where(index >= num_points, index - num_points, index)
                inputs, wanted = read_points(coords, targets, index, valid, I, O)
                sines, cosines, outputs = forward(inputs, first, deeper, biases, last, offset, I, O, L, T, HP, EXACT)
                residual = residuals(outputs, wanted, valid, O, OCCUPANCY)
                error += residual * residual
                residual = residual * scale
                to_offset += residual
                if O == 1:
                    to_last += by_pairs(sines[L - 1] * residual[:, None], T, HP)
                    slope = residual[:, None] * last_back[None, :] * cosines[L - 1]
                else:
                    parts = split(residual)
                    to_last = added(to_last, split(tl.trans(sines[L - 1])), parts, EXACT)
                    slope = product(parts, last_back, slopes, EXACT) * cosines[L - 1]
                new_deeper = ()
                new_bias = ()
                for layer in tl.static_range(L - 2, -1, -1):
                    new_bias = (to_bias[layer] + by_pairs(slope, T, HP),) + new_bias
                    parts = split(slope)
                    before = split(tl.trans(sines[layer]))
                    new_deeper = (added(to_deeper[layer], before, parts, EXACT),) + new_deeper
                    slope = product(parts, back[layer], slopes, EXACT) * cosines[layer]
                to_deeper = new_deeper
                to_bias = new_bias
                if I <= FEW:
                    new_first = ()
                    for i in tl.static_range(I):
                        new_first = new_first + (to_first[i] + by_pairs(inputs[i][:, None] * slope, T, HP),)
                    to_first = new_first + (to_first[I] + by_pairs(slope, T, HP),)
                else:
                    to_first = added(to_first, split(tl.trans(inputs)), split(slope), EXACT)

            if not BATCHES:
                loss = share * total(error, O)
                done = (step == num_steps) | (loss <= stop) | ((loss <= LARGEST) == 0)
                going = tl.where(done, 0, 1)

            if going > 0:
                if I <= FEW:
                    for i in tl.static_range(I):
                        tl.store(gradient + neuron * I + i, over_points(to_first[i], T, HP), mask=real)
                    tl.store(gradient + H * I + neuron, over_points(to_first[I], T, HP), mask=real)
                else:
                    tl.store(gradient + at_first, to_first, mask=in_first)
                for layer in tl.static_range(L - 1):
                    tl.store(gradient + layer * BLOCK + at_deeper, to_deeper[layer], mask=in_deeper)
                    of_bias = over_points(to_bias[layer], T, HP)
                    tl.store(gradient + layer * BLOCK + at_bias + neuron, of_bias, mask=real)
                if O == 1:
                    tl.store(gradient + LAST + neuron, over_points(to_last, T, HP), mask=real)
                    tl.store(gradient + LAST + H, tl.reduce(to_offset, 0, add))
                else:
                    tl.store(gradient + at_last, to_last, mask=in_last)
                    tl.store(gradient + LAST + O * H + column, tl.reduce(to_offset, 0, add), mask=column < O)
                tl.debug_barrier()
                # Adam (Kingma and Ba 2015), the moments as torch.optim.Adam has them.
                rate = tl.load(rates + 2 * step)
                root = tl.load(rates + 2 * step + 1)
                for begin in tl.range(0, D, A, num_stages=1):
                    at = begin + tl.arange(0, A)
                    inside = at < D
                    g = tl.load(gradient + at, mask=inside, other=0.0)
                    m = tl.load(mean + at, mask=inside, other=0.0)
                    v = tl.load(square + at, mask=inside, other=0.0)
                    w = tl.load(flat + at, mask=inside, other=0.0)
                    m += first_weight * (g - m)
                    v = (second_weight * g) * g + second * v
                    own = tl.where(at < H * (I + 1), rate * first_factor, rate)
                    w -= tl.div_rn(own * m, tl.sqrt_rn(v) * root + epsilon)
                    tl.store(mean + at, m, mask=inside)
                    tl.store(square + at, v, mask=inside)
                    tl.store(flat + at, w, mask=inside)
                tl.debug_barrier()
                step += 1
    tl.store(loss_out + inr, loss)
    tl.store(steps_out + inr, step)


@triton.jit
def sincospi_kernel(numbers, sines, cosines, repeats, COUNT: tl.constexpr, EXACT: tl.constexpr = True):
    """sin(pi z) and cos(pi z) of COUNT numbers a program, `repeats` times over their own sum: for tests and figures."""
    at = tl.program_id(0).to(tl.int64) * COUNT + tl.arange(0, COUNT)
    z = tl.load(numbers + at)
    sine, cosine = activation(z, EXACT)
    for _ in tl.range(1, repeats, num_stages=1):
        sine, cosine = activation(sine + cosine, EXACT)
    tl.store(sines + at, sine)
    tl.store(cosines + at, cosine)
