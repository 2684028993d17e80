#include "app/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

namespace postern::app {

std::string metrics_text(const Service::Stats& stats, const audit::GroupWriter::Stats& audit) {
  using prometheus::MetricFamily;
  using prometheus::MetricType;
  std::vector<MetricFamily> families;
  const auto add = [&](const char* name, const char* help, MetricType type, double value) {
    MetricFamily family{name, help, type, {}};
    prometheus::ClientMetric metric;
    metric.counter.value = value;
    metric.gauge.value = value;
    family.metric.push_back(metric);
    families.push_back(std::move(family));
  };
  const auto counter = [&](const char* name, const char* help, std::uint64_t value) {
    add(name, help, MetricType::Counter, static_cast<double>(value));
  };
  const auto gauge = [&](const char* name, const char* help, std::size_t value) {
    add(name, help, MetricType::Gauge, static_cast<double>(value));
  };

  const auto& http = stats.http;
  counter("postern_http_connections_accepted_total", "Connections accepted",
          http.connections_accepted);
  counter("postern_http_connections_refused_total", "Connections refused by a limit",
          http.connections_refused);
  gauge("postern_http_connections_open", "Connections open now", http.connections_open);
  counter("postern_http_requests_total", "Requests answered", http.requests);
  counter("postern_http_parse_errors_total", "Requests refused as malformed", http.parse_errors);
  counter("postern_http_overloads_total", "Requests answered 503 because a queue was full",
          http.overloads);
  counter("postern_http_timeouts_total", "Connections closed by a time-out", http.timeouts);
  counter("postern_http_handler_faults_total", "Exceptions that a handler let out",
          http.handler_faults);

  const auto& database = stats.database;
  counter("postern_database_queries_total", "Statements sent, audit batches not included",
          database.queries);
  counter("postern_database_connects_total", "Connections opened", database.connects);
  counter("postern_database_connect_failures_total", "Failed attempts to connect",
          database.connect_failures);
  counter("postern_database_checkout_timeouts_total", "Waits for a free connection given up",
          database.checkout_timeouts);
  gauge("postern_database_connections", "Connections open now", database.open);

  counter("postern_audit_batches_total", "Group commits of the audit log", audit.batches);
  counter("postern_audit_events_total", "Audit records committed by the writer", audit.events);
  counter("postern_audit_failures_total", "Batches that could not be committed", audit.failures);
  gauge("postern_audit_waiting", "Records waiting for a commit", audit.waiting);

  gauge("postern_memory_locked", "1 while all memory taken for secrets is locked",
        secure_memory_locked() ? 1 : 0);
  counter("postern_token_cache_hits_total", "Subject tokens recognised", stats.tokens.hits);
  counter("postern_token_cache_misses_total", "Subject tokens verified", stats.tokens.misses);
  gauge("postern_token_cache_entries", "Subject tokens remembered", stats.tokens.entries);
  counter("postern_snapshot_loads_total", "Tenant configurations loaded", stats.snapshots.loads);
  gauge("postern_snapshot_tenants", "Tenants in memory", stats.snapshots.tenants);
  gauge("postern_snapshot_bytes", "Estimated bytes of tenants in memory", stats.snapshots.bytes);

  const auto labelled = [&](const char* name, const char* help, const char* label,
                            std::initializer_list<std::pair<const char*, std::uint64_t>> values) {
    MetricFamily family{name, help, MetricType::Gauge, {}};
    for (const auto& [text, value] : values) {
      prometheus::ClientMetric metric;
      metric.label.push_back({label, text});
      metric.gauge.value = static_cast<double>(value);
      family.metric.push_back(metric);
    }
    families.push_back(std::move(family));
  };
  const auto& keys = stats.root_keys;
  std::uint64_t active = 0, old = 0, missing = 0, rewrapped = 0;
  for (const auto& use : keys.uses) {
    const auto given = std::find(keys.given.begin(), keys.given.end(), use.root_key_id);
    (given == keys.given.end() ? missing : given == keys.given.begin() ? active : old) += use.keks;
    rewrapped += use.rewrapped;
  }
  gauge("postern_root_key_ok", "1 when every KEK is under a root key that is here",
        keys.state == vault::RootKeyState::Ok ? 1 : 0);
  labelled("postern_keks", "KEKs in the database, by the root key they are under", "root_key",
           {{"active", active}, {"old", old}, {"missing", missing}});
  gauge("postern_tenants_held", "Tenants whose key demands the share of a key holder", keys.held);
  gauge("postern_tenants_sealed", "Of them, those that are sealed at this replica", keys.sealed);
  if (keys.backlog) {
    labelled("postern_rows_to_rewrap", "Rows under an older KEK than their tenant's newest", "kind",
             {{"credential_version", keys.backlog->credential_versions},
              {"signing_key", keys.backlog->signing_keys},
              {"other", keys.backlog->others}});
  }
  using ShareStore = vault::Erasures::ShareStoreState;
  if (stats.share_store != ShareStore::None) {
    gauge("postern_share_store_ok", "1 while the share store answers",
          stats.share_store == ShareStore::Ok ? 1 : 0);
  }
  counter(
      "postern_rows_rewrapped_total",
      "Rows moved to newer KEKs, by whatever process; tenants that were removed are gone from it",
      rewrapped);
  const auto& rotations = stats.rotations;
  counter("postern_credential_rotations_total", "Credentials rotated by this process",
          rotations.rotated);
  counter("postern_credential_rotations_rolled_back_total",
          "Rotations that this process undid, because a step failed or a value was given meanwhile",
          rotations.rolled_back);
  const auto under_way = [&](vault::RotationPhase phase) -> std::uint64_t {
    const auto found = rotations.counts.by_phase.find(phase);
    return found == rotations.counts.by_phase.end() ? 0 : found->second;
  };
  labelled("postern_credential_rotations", "Rotations under way, of all replicas, by phase",
           "phase",
           {{"pending", under_way(vault::RotationPhase::Pending)},
            {"set", under_way(vault::RotationPhase::Set)},
            {"tested", under_way(vault::RotationPhase::Tested)},
            {"previous", under_way(vault::RotationPhase::Previous)},
            {"rolling_back", under_way(vault::RotationPhase::RollingBack)}});
  gauge("postern_credential_rotations_overdue",
        "Credentials with rotation settings that were to be rotated by now",
        rotations.counts.overdue);
  gauge("postern_credential_rotations_failing",
        "Credentials whose last rotation failed, or whose present step does not succeed",
        rotations.counts.failing);
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace postern::app
