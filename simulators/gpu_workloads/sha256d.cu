// SHA-256d (FIPS 180-4, twice) of an 80-byte header with a counting nonce: one nonce a thread.

__constant__ unsigned int K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

__device__ __forceinline__ unsigned int right(unsigned int x, int n) { return __funnelshift_r(x, x, n); }

__device__ __forceinline__ unsigned int swapped(unsigned int x) { return __byte_perm(x, 0, 0x0123); }

__device__ void begin(unsigned int *state)
{
    state[0] = 0x6a09e667; state[1] = 0xbb67ae85; state[2] = 0x3c6ef372; state[3] = 0xa54ff53a;
    state[4] = 0x510e527f; state[5] = 0x9b05688c; state[6] = 0x1f83d9ab; state[7] = 0x5be0cd19;
}

__device__ void compress(unsigned int *state, unsigned int *w)
{
    unsigned int a = state[0], b = state[1], c = state[2], d = state[3];
    unsigned int e = state[4], f = state[5], g = state[6], h = state[7];
#pragma unroll
    for (int i = 0; i < 64; i++) {
        if (i >= 16) {
            unsigned int early = w[(i + 1) & 15], late = w[(i + 14) & 15];
            w[i & 15] += (right(early, 7) ^ right(early, 18) ^ (early >> 3)) + w[(i + 9) & 15]
                + (right(late, 17) ^ right(late, 19) ^ (late >> 10));
        }
        unsigned int one = h + (right(e, 6) ^ right(e, 11) ^ right(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i & 15];
        unsigned int two = (right(a, 2) ^ right(a, 13) ^ right(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g; g = f; f = e; e = d + one; d = c; c = b; b = a; a = one + two;
    }
    state[0] += a; state[1] += b; state[2] += c; state[3] += d;
    state[4] += e; state[5] += f; state[6] += g; state[7] += h;
}

// header: its first 76 bytes as 19 big-endian words. A value is the hash's highest 64 bits, as a target sees them.
extern "C" __global__ void search(const unsigned int *header, unsigned int first, unsigned long long highest,
                                  unsigned int *count, unsigned long long *values, unsigned int values_max)
{
    unsigned int nonce = first + blockIdx.x * blockDim.x + threadIdx.x;
    unsigned int state[8], w[16];
    begin(state);
    for (int i = 0; i < 16; i++) w[i] = header[i];
    compress(state, w);
    for (int i = 0; i < 16; i++) w[i] = i < 3 ? header[16 + i] : 0;
    w[3] = swapped(nonce);
    w[4] = 0x80000000;
    w[15] = 640;
    compress(state, w);
    for (int i = 0; i < 16; i++) w[i] = i < 8 ? state[i] : 0;
    w[8] = 0x80000000;
    w[15] = 256;
    begin(state);
    compress(state, w);
    unsigned long long value = ((unsigned long long)swapped(state[7]) << 32) | swapped(state[6]);
    if (value <= highest) {
        unsigned int place = atomicAdd(count, 1u);
        if (place < values_max) values[place] = value;
    }
}
