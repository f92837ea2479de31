/* plain_tiles.c - the quantized product over tiles, with plain C for the instructions:
 * kernels/tiles.h.
 */
#define QAT_ISA tiles
#define QAT_PLAIN_TILES 1
#include "qgemm_pack.c"
#include "qgemm_unpack.c"
#include "qgemm.c"
