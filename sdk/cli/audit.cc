#include <charconv>
#include <chrono>
#include <thread>

#include "cli/commands.h"
#include "cli/output.h"

namespace postern::cli {
namespace {

/// What a record is about: the backend, credential or object it names.
std::string target_of(const sdk::AuditRecord& record) {
  const auto backend = record.first_of({"backend", "audience", "resource"});
  const auto credential = record.first_of({"credential"});
  if (!backend.empty() && !credential.empty()) {
    return printable(backend) + "/" + printable(credential);
  }
  if (!backend.empty() || !credential.empty()) {
    return printable(backend.empty() ? credential : backend);
  }
  return printable(record.first_of({"objects", "asked", "secret_id", "revoked_token"}));
}

std::string or_dash(std::string text) { return text.empty() ? "-" : text; }

/// A record may name every object of a large manifest; --json shows them all.
std::string shortened(const std::string& text) {
  constexpr std::size_t kMax = 48;
  if (text.size() <= kMax) return text;
  std::size_t end = kMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80) --end;
  return text.substr(0, end) + "...";
}

std::vector<std::string> row_of(const sdk::AuditRecord& record) {
  return {printable(record.at),
          printable(record.action),
          printable(record.outcome),
          or_dash(printable(record.first_of({"client", "caller"}))),
          or_dash(shortened(printable(record.first_of({"subject"})))),
          or_dash(shortened(target_of(record))),
          printable(record.first_of({"reason", "scope"}))};
}

std::string shown_records(const std::vector<sdk::AuditRecord>& records, bool json, bool header) {
  std::string lines;
  if (json) {
    for (const auto& record : records) lines += record.json + "\n";
    return lines;
  }
  if (records.empty()) return {};
  Table table({"TIME", "ACTION", "OUTCOME", "CLIENT", "SUBJECT", "TARGET", "REASON"});
  for (const auto& record : records) table.add(row_of(record));
  lines = table.text();
  if (!header) lines.erase(0, lines.find('\n') + 1);
  return lines;
}

/// Prints what is new, again and again, until it cannot any more.
int follow(sdk::Client& client, const TenantId& tenant, const Settings& settings,
           const AuditOptions& options, std::uint64_t after) {
  sdk::AuditQuery query;
  query.after = after;
  query.action = options.action;
  bool complained = false;
  for (;;) {
    const auto page = client.audit(tenant, query);
    if (page.ok()) {
      if (complained) say_error("the server answers again");
      complained = false;
      const auto& items = page.value().items;
      const auto status = print(shown_records(items, settings.json, false));
      if (!status.ok()) return report(status.error(), "");
      if (!items.empty()) {
        query.after = items.back().sequence;
        continue;
      }
      if (page.value().next_after && *page.value().next_after > *query.after) {
        query.after = page.value().next_after;
        continue;
      }
    } else if (!sdk::is_temporary(page.error())) {
      return report(page.error(), "follow the audit trail");
    } else if (!complained) {
      report(page.error(), "follow the audit trail for now");
      complained = true;
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(options.interval));
  }
}

}  // namespace

int run_audit_tail(const Settings& settings, const AuditOptions& options) {
  constexpr const char* kDoing = "read the audit trail";
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);

  sdk::AuditQuery query;
  query.action = options.action;
  query.limit = options.lines == 0 ? 1 : options.lines;
  if (options.after.empty()) {
    query.order = sdk::AuditOrder::NewestFirst;
  } else {
    std::uint64_t sequence = 0;
    const auto end = options.after.data() + options.after.size();
    const auto parsed = std::from_chars(options.after.data(), end, sequence);
    if (parsed.ec != std::errc() || parsed.ptr != end) {
      return report(sdk::fail(sdk::ErrorKind::Usage, "--after takes the number of a record"),
                    kDoing);
    }
    query.after = sequence;
  }
  auto page = client.value().audit(tenant.value(), query);
  if (!page.ok()) return report(page.error(), kDoing);
  auto& records = page.value().items;
  if (query.order == sdk::AuditOrder::NewestFirst) {
    records = {std::make_move_iterator(records.rbegin()), std::make_move_iterator(records.rend())};
  }
  const auto last = records.empty() ? query.after.value_or(0) : records.back().sequence;
  if (options.lines == 0) records.clear();
  const auto status = print(shown_records(records, settings.json, true));
  if (!status.ok()) return report(status.error(), "");
  if (!options.follow) return exit_code::kOk;
  return follow(client.value(), tenant.value(), settings, options, last);
}

int run_audit_verify(const Settings& settings) {
  constexpr const char* kDoing = "verify the audit trail";
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  const auto result = client.value().verify_audit(tenant.value());
  if (!result.ok()) return report(result.error(), kDoing);

  const auto& chain = result.value();
  const auto head = std::to_string(chain.records) + " records, head " +
                    std::to_string(chain.head_sequence) + " " + printable(chain.head_hash);
  if (chain.intact) {
    const auto status = print("intact: " + head + "\n");
    if (!status.ok()) return report(status.error(), "");
    return exit_code::kOk;
  }
  say_error("the audit trail of tenant " + tenant.value().str() + " is NOT intact" +
            (chain.first_bad ? " from record " + std::to_string(*chain.first_bad) : "") +
            (chain.problem.empty() ? "" : ": " + printable(chain.problem)));
  say_note(head);
  say_note(
      "next: keep the database as it is, and compare with a backup and with head hashes "
      "noted earlier");
  return exit_code::kRefused;
}

}  // namespace postern::cli
