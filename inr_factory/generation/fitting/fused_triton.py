"""Fused kernel, CUDA: every step of the fit of one SIREN by one Triton program. The only module that imports triton.

A program reads the weights of its INR once a step, runs over tiles of points with activations and the sums of the
gradients in registers and shared memory, and then makes Adam's update on the flat layout of SirenSpec. Weights,
gradients and moments (some KB an INR) lie in global memory between the phases of a step, where each multiprocessor
finds those of its few programs in its caches; of the large arrays, only coords and targets come from there.

Widths are padded with zeros to HP neurons; padding has the weights 0, so its sine is 0 and it stays 0. Inputs
and outputs are padded to PAD columns; column I of the inputs is 1 and carries the biases of the first layer, and the
gradients of all biases of hidden layers, as one more row of a product. One output alone, the usual case, is not padded:
outputs, residuals and targets are then (T,), the last layer (HP,).

Only builtins of triton.language are used, none of its own @jit functions (tl.sum, tl.zeros, tl.cdiv): those are bound
to the compiler or to the interpreter when triton is imported, this module when it is itself, so that one process can
have both.

Letters: T points of a tile, H neurons, HP the same with padding, I inputs, O outputs, D parameters, K the depth of a
matrix product.
"""

import triton
import triton.language as tl

PAD: tl.constexpr = tl.constexpr(16)  # the least depth, and number of columns, of a matrix product
LARGEST: tl.constexpr = tl.constexpr(3.4028234663852886e38)


@triton.jit
def add(a, b):
    return a + b


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
def transposed(a):
    return tl.trans(a[0]), tl.trans(a[1])


@triton.jit
def read_points(coords, targets, index, valid, I: tl.constexpr, O: tl.constexpr):
    """Inputs (T, PAD), split, with ones in column I, and targets (T, PAD) or (T,) of the points of a tile."""
    column = tl.arange(0, PAD)
    point = index.to(tl.int64)
    known = valid[:, None] & (column[None, :] < I)
    inputs = tl.load(coords + point[:, None] * I + column[None, :], mask=known, other=0.0)
    inputs = split(tl.where(column[None, :] == I, 1.0, inputs))
    if O == 1:
        wanted = tl.load(targets + point, mask=valid, other=0.0)
    else:
        known = valid[:, None] & (column[None, :] < O)
        wanted = tl.load(targets + point[:, None] * O + column[None, :], mask=known, other=0.0)
    return inputs, wanted


@triton.jit
def forward(
    inputs, first, deeper, biases, last, offset, O: tl.constexpr, L: tl.constexpr, T: tl.constexpr, HP: tl.constexpr
):
    """Sines and cosines (T, HP) of each hidden layer, and the outputs (T, PAD) or (T,). The weights are split."""
    z = product(inputs, first, tl.full((T, HP), 0.0, tl.float32), True)
    sine, cosine = sincospi(z)
    sines = (sine,)
    cosines = (cosine,)
    for layer in tl.static_range(L - 1):
        z = product(split(sine), deeper[layer], tl.full((T, HP), 0.0, tl.float32), True) + biases[layer][None, :]
        sine, cosine = sincospi(z)
        sines = sines + (sine,)
        cosines = cosines + (cosine,)
    if O == 1:
        outputs = tl.reduce(sine * last[None, :], 1, add) + offset
    else:
        outputs = product(split(sine), last, tl.full((T, PAD), 0.0, tl.float32), True) + offset[None, :]
    return sines, cosines, outputs


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
    half_turns, omega, output_bias, scale, share, first_weight, second, second_weight, epsilon,
    I: tl.constexpr, O: tl.constexpr, H: tl.constexpr, L: tl.constexpr, D: tl.constexpr,
    HP: tl.constexpr, T: tl.constexpr, A: tl.constexpr,
    BATCHES: tl.constexpr, OCCUPANCY: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Fit INR `program_id(0)`: as fused_fit of fused.c, whose stopping rules and sums it has.

    coords (P, I) or (N, P, I), with coords_stride between INRs; targets (N, P, O); flat, mean, square, gradient (N, D),
    the moments 0; rates (num_steps, 2): the rate over its bias correction, and the factor that corrects sqrt(square);
    stop_loss, loss_out, steps_out (N,). scale turns residuals into slopes, share the sum of squares into the loss.
    A parameters at a time are updated.
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
                    sines, cosines, outputs = forward(inputs, first, deeper, biases, last, offset, O, L, T, HP)
                    residual = residuals(outputs, wanted, valid, O, OCCUPANCY)
                    error += residual * residual
                loss = share * total(error, O)
                done = (step == num_steps) | (loss <= stop) | ((loss <= LARGEST) == 0)
                going = tl.where(done, 0, 1)

        if going > 0:
            # Gradients, in the same shapes; of biases of deeper layers in row I of (PAD, HP).
            nothing = tl.full((T, HP), 0.0, tl.float32)
            to_first = tl.full((PAD, HP), 0.0, tl.float32)
            to_last = tl.full((HP,) if O == 1 else (HP, PAD), 0.0, tl.float32)
            to_offset = tl.full((T,) if O == 1 else (T, PAD), 0.0, tl.float32)
            error = tl.full((T,) if O == 1 else (T, PAD), 0.0, tl.float32)
            to_deeper = ()
            to_bias = ()
            for _ in tl.static_range(L - 1):
                to_deeper = to_deeper + (tl.full((HP, HP), 0.0, tl.float32),)
                to_bias = to_bias + (tl.full((PAD, HP), 0.0, tl.float32),)
            begin_at = ((step.to(tl.int64) * batch_points) % num_points).to(tl.int32)

            for begin in tl.range(0, batch_points, T, num_stages=1):
                index = begin + tile
                valid = index < batch_points
                if BATCHES:
                    index = begin_at + index
                    index = tl.where(index >= num_points, index - num_points, index)
                inputs, wanted = read_points(coords, targets, index, valid, I, O)
                sines, cosines, outputs = forward(inputs, first, deeper, biases, last, offset, O, L, T, HP)
                residual = residuals(outputs, wanted, valid, O, OCCUPANCY)
                error += residual * residual
                residual = residual * scale
                to_offset += residual
                if O == 1:
                    to_last += tl.reduce(sines[L - 1] * residual[:, None], 0, add)
                    slope = residual[:, None] * last_back[None, :] * cosines[L - 1]
                else:
                    parts = split(residual)
                    to_last = product(transposed(split(sines[L - 1])), parts, to_last, EXACT)
                    slope = product(parts, last_back, nothing, EXACT) * cosines[L - 1]
                rows = transposed(inputs)
                new_deeper = ()
                new_bias = ()
                for layer in tl.static_range(L - 2, -1, -1):
                    slope = split(slope)
                    new_deeper = (
                        product(transposed(split(sines[layer])), slope, to_deeper[layer], EXACT),
                    ) + new_deeper
                    new_bias = (product(rows, slope, to_bias[layer], EXACT),) + new_bias
                    slope = product(slope, back[layer], nothing, EXACT) * cosines[layer]
                to_deeper = new_deeper
                to_bias = new_bias
                to_first = product(rows, split(slope), to_first, EXACT)

            if not BATCHES:
                loss = share * total(error, O)
                done = (step == num_steps) | (loss <= stop) | ((loss <= LARGEST) == 0)
                going = tl.where(done, 0, 1)

            if going > 0:
                tl.store(gradient + at_first, to_first, mask=in_first)
                for layer in tl.static_range(L - 1):
                    tl.store(gradient + layer * BLOCK + at_deeper, to_deeper[layer], mask=in_deeper)
                    in_row = at_bias + neuron[None, :] + 0 * column[:, None]
                    tl.store(gradient + layer * BLOCK + in_row, to_bias[layer], mask=is_bias & real[None, :])
                if O == 1:
                    tl.store(gradient + LAST + neuron, to_last, mask=real)
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
                    w -= tl.div_rn(rate * m, tl.sqrt_rn(v) * root + epsilon)
                    tl.store(mean + at, m, mask=inside)
                    tl.store(square + at, v, mask=inside)
                    tl.store(flat + at, w, mask=inside)
                tl.debug_barrier()
                step += 1
    tl.store(loss_out + inr, loss)
    tl.store(steps_out + inr, step)


@triton.jit
def sincospi_kernel(numbers, sines, cosines, repeats, COUNT: tl.constexpr):
    """sin(pi z) and cos(pi z) of COUNT numbers a program, `repeats` times over their own sum: for tests and figures."""
    at = tl.program_id(0).to(tl.int64) * COUNT + tl.arange(0, COUNT)
    z = tl.load(numbers + at)
    sine, cosine = sincospi(z)
    for _ in tl.range(1, repeats, num_stages=1):
        sine, cosine = sincospi(sine + cosine)
    tl.store(sines + at, sine)
    tl.store(cosines + at, cosine)
