/* kinds.h - the vtables of all kinds, for files of the core.
 *
 * <qatrun/plugin.h> has a qat_fail for plugins, which comes here through the host. In
 * the core it steps aside for the one of error.h.
 */
#ifndef QAT_KINDS_H
#define QAT_KINDS_H

#define qat_fail qat_fail_of_plugins
#include <qatrun/backend.h>
#include <qatrun/dataset.h>
#include <qatrun/format.h>
#include <qatrun/model.h>
#include <qatrun/optimizer.h>
#include <qatrun/plugin.h>
#include <qatrun/quantizer.h>
#include <qatrun/source.h>
#include <qatrun/task.h>
#include <qatrun/tokenizer.h>
#include <qatrun/tracker.h>
#undef qat_fail

#include "error.h"

#endif
