#pragma once

#include <string>

#include "app/wiring.h"
#include "audit/group_writer.h"

namespace postern::app {

/// The service's counters in the Prometheus text format. No tenant, client or
/// subject is ever a label: that would be both a leak and unbounded.
std::string metrics_text(const Service::Stats& stats, const audit::GroupWriter::Stats& audit);

}  // namespace postern::app
