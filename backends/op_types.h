/* op_types.h - types of values as the backends' op tables write them, one letter each:
 *   e F32, BF16            h F32, BF16, F16        x F32, BF16, I8, U8
 *   f F32    d F64    i I32    u U8    q I8, U8 (codes)    z I8, F32 (zero points)
 *   * anything: the op's own check says what
 */
#ifndef QAT_BACKENDS_OP_TYPES_H
#define QAT_BACKENDS_OP_TYPES_H

#include <qatrun/graph.h>

/* Whether dtype, QAT_F32 and so on, is one that the letter stands for; 0 for no letter. */
static inline int qat_type_fits(char letter, uint32_t dtype)
{
	switch (letter) {
	case 'e': return dtype == QAT_F32 || dtype == QAT_BF16;
	case 'h': return dtype == QAT_F32 || dtype == QAT_BF16 || dtype == QAT_F16;
	case 'x': return dtype == QAT_F32 || dtype == QAT_BF16 || dtype == QAT_I8 ||
			 dtype == QAT_U8;
	case 'f': return dtype == QAT_F32;
	case 'd': return dtype == QAT_F64;
	case 'i': return dtype == QAT_I32;
	case 'q': return dtype == QAT_I8 || dtype == QAT_U8;
	case 'u': return dtype == QAT_U8;
	case 'z': return dtype == QAT_I8 || dtype == QAT_F32;
	default:  return letter == '*';
	}
}

#endif
