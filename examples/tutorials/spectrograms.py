"""Sound: short-time Fourier transforms, a mel scale, filters, and a filter learned in both the
time and the frequency domain."""

import math

import torch
from torch.nn import functional as F

RATE = 800


def mel_bank(bins, bands):
    """Triangles that are equally wide on the mel scale. -> (bins, bands)"""

    def mel(hertz):
        return 2595 * math.log10(1 + hertz / 700)

    edges = 700 * (10 ** (torch.linspace(0, mel(RATE / 2), bands + 2) / 2595) - 1)
    offsets = edges - torch.linspace(0, RATE / 2, bins)[:, None]
    rising, falling = -offsets[:, :-2] / edges.diff()[:-1], offsets[:, 2:] / edges.diff()[1:]
    return torch.minimum(rising, falling).clamp(min=0)


def spectrum(x, size):
    return torch.stft(x, size, window=torch.hann_window(size), return_complex=True)


def main():
    torch.manual_seed(0)
    time = torch.arange(2 * RATE) / RATE
    x = torch.sin(2 * math.pi * 50 * time) + 0.3 * torch.sin(2 * math.pi * 120 * time)
    x = x + 0.05 * torch.randn_like(x)

    frames = spectrum(x, 64)
    print("frames", frames.shape, frames.dtype, frames.abs().mean().item())
    back = torch.istft(frames, 64, window=torch.hann_window(64), length=len(x))
    print("back", torch.allclose(back, x, atol=1e-5))
    bands = (mel_bank(33, 8).T @ frames.abs().square()).clamp(min=1e-10).log10()
    print("bands", *bands.mean(1).tolist())

    waves, hertz = torch.fft.rfft(x), torch.fft.rfftfreq(len(x), 1 / RATE)
    print("loudest", hertz[waves.abs().argmax()].item())
    waves[hertz > 80] = 0
    low = torch.fft.irfft(waves, n=len(x))
    print("low", low.std().item())

    kernel = torch.hann_window(9, periodic=False)
    kernel = kernel / kernel.sum()
    smooth = F.conv1d(x[None, None], kernel[None, None], padding=4)[0, 0]
    size = len(x) + 8
    product = torch.fft.rfft(x, size) * torch.fft.rfft(kernel, size)
    print("same", torch.allclose(torch.fft.irfft(product, size)[4:-4], smooth, atol=1e-5))

    weight = torch.zeros(1, 1, 9, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.03)
    for step in range(5):
        found = F.conv1d(x[None, None], weight, padding=4)[0, 0]
        apart = spectrum(found, 32).abs() - spectrum(smooth, 32).abs()
        loss = F.mse_loss(found, smooth) + apart.abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print("loss", step, loss.item())


if __name__ == "__main__":
    main()
