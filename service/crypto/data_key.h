#pragma once

#include "core/secret.h"

namespace postern {

using DataKey = Secret<struct DataKeyTag>;  ///< 32 bytes, with which clients' data is encrypted

}  // namespace postern
