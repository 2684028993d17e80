#pragma once

#include "policy/replay_guard.h"

namespace postern::grants {

// Declared where storage, which implements it, may see it.
using policy::ReplayGuard;

}  // namespace postern::grants
