/* Reads .npy files of float64 in C order, as `lhc-ref check --export` writes them.
 * reader GOT.npy OUT.npy BUDGET.npy: "ok COUNT", or the first element of GOT that is off by more than its budget. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double *read_npy(const char *path, size_t *count) {
    unsigned char head[10];
    char text[4096];
    FILE *f = fopen(path, "rb");
    if (!f || fread(head, 1, 10, f) != 10 || memcmp(head, "\x93NUMPY\x01", 7)) exit(2);
    size_t length = head[8] + 256u * head[9];
    if (length >= sizeof text || fread(text, 1, length, f) != length) exit(2);
    text[length] = 0;
    if (!strstr(text, "'<f8'") || !strstr(text, "'fortran_order': False")) exit(2);
    *count = 1;
    for (char *p = strchr(strstr(text, "'shape'"), '(') + 1; *p != ')';) {
        char *end;
        size_t size = strtoul(p, &end, 10);
        if (end == p) { p++; continue; }
        *count *= size;
        p = end;
    }
    double *values = malloc(*count * sizeof *values + 1);
    if (fread(values, sizeof *values, *count, f) != *count) exit(2);
    fclose(f);
    return values;
}

int main(int argc, char **argv) {
    size_t n, m, k;
    if (argc != 4) return 2;
    double *got = read_npy(argv[1], &n), *out = read_npy(argv[2], &m), *budget = read_npy(argv[3], &k);
    if (n != m || n != k) return 2;
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - out[i]) <= budget[i]) && !(isnan(got[i]) && isnan(out[i])))
            return printf("element %zu: got %.17g, expected %.17g, budget %.3g\n", i, got[i], out[i], budget[i]), 1;
    return printf("ok %zu\n", n), 0;
}
