// The two ends of the CUDA frame path: a frame is cut into patches, the logits of the patches become labels.
//
// Both kernels are separable: what a pixel reads follows from one table per axis, which the host makes (tables.py), so
// one kernel serves every tiling. NVRTC compiles this file without a header; the tests compile the same text as C++ and
// compare it with the numpy path. Products must not be contracted into fused multiply-adds: numpy does not, and the
// labels have to be equal bit for bit.

constexpr int CLASSES = 3;

// How one axis of the frame becomes one axis of the patches. Mirrored by tables.SplitAxis.
struct SplitAxis {
    const int* starts;     // [windows] first px of each window in the content
    const int* first;      // [content] first frame px that a px of the content is made of
    const float* weights;  // [content, taps] shares of that px and of the ones after it
    int taps;
    int content;           // px; beyond it windows are zero
    int window;            // px
};

// How one axis of the windows becomes one axis of the frame. Mirrored by tables.StitchAxis.
struct StitchAxis {
    const int* offsets;    // [taps, frame] where the logit lies along this axis, in elements
    const float* weights;  // [taps, frame] its share; 0 where there is none
    int taps;
    int frame;             // px
};

// A frame, uint8, with the channels of a pixel side by side. Mirrored by tables.FrameLayout.
struct FrameLayout {
    const unsigned char* data;
    long long row_pitch;    // bytes from a row to the next
    long long pixel_pitch;  // bytes from a pixel to the next
    int channels;           // 1 grey, 3 BGR
};

// ITU-R BT.601 with the fixed point of OpenCV's cvtColor, so that grey values are equal to the host's.
__device__ inline int grey_of(const unsigned char* pixel, int channels) {
    if (channels == 1) return pixel[0];
    return (3735 * pixel[0] + 19235 * pixel[1] + 9798 * pixel[2] + (1 << 14)) >> 15;
}

// One thread a px of one patch: grid (window width, window height, patches).
extern "C" __global__ void split_frame(FrameLayout frame, SplitAxis vertical, SplitAxis horizontal, int cols,
                                       unsigned char* patches) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= horizontal.window || y >= vertical.window) return;
    const int patch = blockIdx.z;
    const int content_y = vertical.starts[patch / cols] + y;
    const int content_x = horizontal.starts[patch % cols] + x;
    unsigned char grey = 0;
    if (content_y < vertical.content && content_x < horizontal.content) {
        const unsigned char* corner = frame.data + vertical.first[content_y] * frame.row_pitch +
                                      horizontal.first[content_x] * frame.pixel_pitch;
        float sum = 0.0f;
        for (int i = 0; i < vertical.taps; ++i) {
            float row_sum = 0.0f;
            for (int j = 0; j < horizontal.taps; ++j) {
                const unsigned char* pixel = corner + i * frame.row_pitch + j * frame.pixel_pitch;
                row_sum += horizontal.weights[content_x * horizontal.taps + j] * grey_of(pixel, frame.channels);
            }
            sum += vertical.weights[content_y * vertical.taps + i] * row_sum;
        }
        grey = static_cast<unsigned char>(fminf(rintf(sum), 255.0f));
    }
    patches[(static_cast<long long>(patch) * vertical.window + y) * horizontal.window + x] = grey;
}

__device__ inline float to_float(float logit) { return logit; }

// Half to float without cuda_fp16.h, which NVRTC would have to find. Scaling by 2^112 moves the exponent's bias,
// and gives subnormals their value; what reaches 2^16 was an infinity or not a number.
__device__ inline float to_float(unsigned short half) {
    float value = __uint_as_float(static_cast<unsigned int>(half & 0x7fff) << 13) * 5.192296858534828e33f;
    unsigned int bits = __float_as_uint(value);
    if (value >= 65536.0f) bits |= 0x7f800000u;
    return __uint_as_float(bits | static_cast<unsigned int>(half & 0x8000) << 16);
}

// One thread a px of the frame: grid (frame width, frame height). The windows of a px are added in the order of the
// taps, each product rounded, columns' weight first: as TileGrid.stitch does.
template <typename Logit>
__device__ inline void stitch(const Logit* logits, int plane, StitchAxis vertical, StitchAxis horizontal,
                              unsigned char* labels, float* confidence) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= horizontal.frame || y >= vertical.frame) return;
    float sums[CLASSES] = {0.0f, 0.0f, 0.0f};
    for (int i = 0; i < vertical.taps; ++i) {
        const float row_weight = vertical.weights[i * vertical.frame + y];
        if (row_weight == 0.0f) continue;
        const Logit* row = logits + vertical.offsets[i * vertical.frame + y];
        for (int j = 0; j < horizontal.taps; ++j) {
            const float col_weight = horizontal.weights[j * horizontal.frame + x];
            if (col_weight == 0.0f) continue;
            const Logit* logit = row + horizontal.offsets[j * horizontal.frame + x];
            for (int k = 0; k < CLASSES; ++k) sums[k] += to_float(logit[k * plane]) * col_weight * row_weight;
        }
    }
    // As decision.decide: `top` the largest logit, `other` and `rest` the two below it; ties to the lowest class.
    int label = sums[1] > sums[0] ? 1 : 0;
    const float other = fminf(sums[0], sums[1]);
    float top = fmaxf(sums[0], sums[1]);
    if (sums[2] > top) label = 2;
    const float rest = fminf(sums[2], top);
    top = fmaxf(sums[2], top);
    const long long pixel = static_cast<long long>(y) * horizontal.frame + x;
    labels[pixel] = static_cast<unsigned char>(label);
    confidence[pixel] = 1.0f / (expf(rest - top) + expf(other - top) + 1.0f);
}

extern "C" __global__ void stitch_float32(const float* logits, int plane, StitchAxis vertical, StitchAxis horizontal,
                                          unsigned char* labels, float* confidence) {
    stitch(logits, plane, vertical, horizontal, labels, confidence);
}

extern "C" __global__ void stitch_float16(const unsigned short* logits, int plane, StitchAxis vertical,
                                          StitchAxis horizontal, unsigned char* labels, float* confidence) {
    stitch(logits, plane, vertical, horizontal, labels, confidence);
}
