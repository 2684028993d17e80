#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <sstream>
#include <thread>

#include "cli/commands.h"
#include "cli/credential_input.h"
#include "cli/output.h"
#include "core/time_format.h"
#include "postern/json.h"

namespace postern::cli {
namespace {

using sdk::ErrorKind;
using sdk::Json;

/// What a command on one credential works with.
struct Call {
  TenantId tenant;
  CredentialName name;
  sdk::CredentialOwner owner;
  sdk::Client client;
};

sdk::Result<Call> prepare(const Settings& settings, const RotationOptions& options) {
  POSTERN_TRY(auto tenant, tenant_of(settings));
  auto name = CredentialName::parse(options.credential.name);
  if (!name.ok()) return sdk::fail(ErrorKind::Usage, name.error().detail);
  POSTERN_TRY(auto access, credential_access(settings, options.credential));
  return Call{std::move(tenant), std::move(name).value(), std::move(access.owner),
              std::move(access.client)};
}

/// The text itself, or that of the file behind an @.
sdk::Result<std::string> text_or_file(const std::string& text) {
  if (!text.starts_with('@')) return text;
  std::ifstream file(text.substr(1), std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  if (!file) return sdk::fail(ErrorKind::Usage, "the file cannot be read: " + text.substr(1));
  return content.str();
}

/// A number of seconds, or with s, m, h or d behind it.
sdk::Result<std::optional<std::chrono::seconds>> duration_of(const std::string& text) {
  using Seconds = std::optional<std::chrono::seconds>;
  if (text.empty()) return Seconds();
  std::int64_t number = 0;
  const auto* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, number);
  const std::string_view unit(at, static_cast<std::size_t>(end - at));
  const std::int64_t factor = unit.empty() || unit == "s" ? 1
                              : unit == "m"               ? 60
                              : unit == "h"               ? 3600
                              : unit == "d"               ? 86400
                                                          : 0;
  if (error != std::errc() || number < 0 || number > 1'000'000'000 || factor == 0) {
    return sdk::fail(ErrorKind::Usage, "--grace takes a duration such as 90m, 1h or 7d");
  }
  return Seconds(std::chrono::seconds(number * factor));
}

std::string member(const Json& json, const char* name) {
  const auto it = json.find(name);
  if (it == json.end() || it->is_null()) return "-";
  return printable(it->is_string() ? it->get<std::string>()
                                   : it->dump(-1, ' ', true, Json::error_handler_t::replace));
}

/// In the largest unit of which there are two at least, as options take it.
std::string age_of(const Json& json) {
  const auto it = json.find("age_seconds");
  if (it == json.end() || !it->is_number_unsigned()) return "-";
  const auto seconds = it->get<std::uint64_t>();
  if (seconds >= 2 * 86400) return std::to_string(seconds / 86400) + "d";
  if (seconds >= 2 * 3600) return std::to_string(seconds / 3600) + "h";
  if (seconds >= 2 * 60) return std::to_string(seconds / 60) + "m";
  return std::to_string(seconds) + "s";
}

int finish(const sdk::Status& status) {
  return status.ok() ? exit_code::kOk : report(status.error(), "");
}

std::string phase_of(const Json& json) {
  const auto running = json.find("rotation");
  return running == json.end() ? "-" : member(*running, "phase");
}

std::string owner_of(const Json& json) {
  const auto owner = json.find("owner");
  if (owner == json.end() || member(*owner, "type") != "principal") return "tenant";
  return member(*owner, "subject") + " (" + member(*owner, "issuer") + ")";
}

int show(const Settings& settings, const std::string& answer) {
  if (settings.json) return finish(print(answer + "\n"));
  const auto parsed = sdk::parse_json(answer);
  if (!parsed.ok()) return report(parsed.error(), "read the answer");
  const auto& json = *parsed.value();
  std::string text = "version      " + member(json, "version") + "\nsettings     " +
                     member(json, "settings") + "\nphase        " + phase_of(json) + "\n";
  if (const auto running = json.find("rotation"); running != json.end()) {
    text += "new version  " + member(*running, "version") + "\n";
    if (running->contains("promote_at")) {
      text += "new key      " + member(*running, "public_key") + "\nfrom         " +
              member(*running, "promote_at") + "\n";
    }
    text += "retires at   " + member(*running, "retire_at") + "\nattempts     " +
            member(*running, "attempts") + "\n";
  }
  text += "due          " + member(json, "rotation_due_at") + "\nrotated      " +
          member(json, "rotated_at") + "\nfailed       " + member(json, "failed_at") +
          "\nproblem      " + member(json, "problem") + "\n";
  if (json.contains("public_key")) text += "public key   " + member(json, "public_key") + "\n";
  return finish(print(text));
}

/// `password` and the like stand for the settings that have no more to say.
sdk::Result<std::string> generate_of(const std::string& text) {
  if (text.empty() || text.starts_with('{')) return text;
  if (text.starts_with('@')) return text_or_file(text);
  return Json{{"kind", text}}.dump();
}

bool is_settled(const Json& json) {
  const auto running = json.find("rotation");
  return running == json.end() || member(*running, "phase") == "previous" ||
         running->contains("promote_at");
}

/// Asks until the new value is handed out or announced, or was given up.
sdk::Result<std::string> settled(Call& call, std::string answer) {
  for (;;) {
    POSTERN_TRY(const auto json, sdk::parse_json(answer));
    if (is_settled(*json)) return answer;
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    POSTERN_TRY(answer, call.client.rotation(call.tenant, call.name, call.owner));
  }
}

template <class Do>
int on_one(const Settings& settings, const RotationOptions& options, const std::string& doing,
           const Do& run) {
  auto call = prepare(settings, options);
  if (!call.ok()) return report(call.error(), doing);
  const auto answer = run(call.value());
  if (!answer.ok()) return report(answer.error(), doing);
  return show(settings, answer.value());
}

sdk::Result<sdk::CredentialFilter> filter_of(const CredentialOptions& options) {
  sdk::CredentialFilter filter;
  filter.type = options.type;
  filter.overdue = options.overdue;
  for (const auto& text : options.labels) {
    const auto equals = text.find('=');
    if (equals == text.npos || equals == 0) {
      return sdk::fail(ErrorKind::Usage, "--label takes NAME=TEXT");
    }
    filter.labels.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return filter;
}

/// As one word of a shell.
std::string shell_word(const std::string& text) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_-./:@").find(c) != std::string_view::npos;
  };
  if (!text.empty() && std::all_of(text.begin(), text.end(), plain)) return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

/// Shows where the rotation of an item stands.
std::string show_command(const Settings& settings, const Json& item) {
  const auto owner = item.find("owner");
  const bool user = owner != item.end() && member(*owner, "type") == "principal";
  const auto& tenant = settings.tenant;
  return "postern " + (tenant.empty() ? std::string() : "--tenant " + shell_word(tenant) + " ") +
         "rotation show " + shell_word(member(item, "name")) +
         (user ? " --issuer " + shell_word(member(*owner, "issuer")) + " --subject " +
                     shell_word(member(*owner, "subject"))
               : " --tenant-owned");
}

/// What was said of each, in the order in which it came; what another search names again is
/// there once, as it is now, with all of its uses.
class Items {
 public:
  void add(const Json& item) {
    const auto [at, added] = at_.try_emplace(
        member(item, "name") + '\n' + owner_of(item) + '\n' + member(item, "owner"), items_.size());
    if (added) {
      items_.push_back(item);
      return;
    }
    Json again = item;
    const auto& before = items_[at->second];
    if (before.contains("uses")) {
      again["uses"] = before.value("uses", std::uint64_t{0}) + item.value("uses", std::uint64_t{0});
      again["last_used_at"] = before.value("last_used_at", std::string());  // newest first
    }
    items_[at->second] = std::move(again);
  }
  const std::vector<Json>& all() const { return items_; }

 private:
  std::vector<Json> items_;
  std::map<std::string, std::size_t> at_;
};

/// What was done to each, page after page; also what was done before a page that failed.
/// What has begun is not done: it is said how to follow it, and one that does not go on
/// counts as refused. So does, in an emergency, what nobody outside was told of.
/// @param nothing  what is said when there is no item
/// @param look     at each page besides its items
/// @param from     the cursor to begin with, where the command has an option for it: then what
///                 ends before its end says how to go on
template <class Ask>
int each_page(
    const Settings& settings, const std::string& doing, Table table, const char* nothing,
    const Ask& ask, const std::vector<const char*>& columns,
    const std::function<void(const Json&)>& look = [](const Json&) {},
    const std::optional<std::string>& from = {}) {
  Items items;
  const auto show_all = [&] {
    std::string lines;
    for (const auto& item : items.all()) {
      lines += item.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n";
      std::vector<std::string> row{member(item, "name"), owner_of(item)};
      for (const auto* column : columns) {
        const std::string_view name(column);
        row.push_back(name == "phase"         ? phase_of(item)
                      : name == "age_seconds" ? age_of(item)
                                              : member(item, column));
      }
      table.add(std::move(row));
    }
    return print(settings.json ? lines : table.text());
  };
  std::string cursor = from.value_or("");
  bool first = true;
  for (bool more = true; more; first = false) {
    const auto answer = ask(cursor);
    const auto json = answer.ok() ? sdk::parse_json(answer.value()) : answer.error();
    if (!json.ok()) {
      if (!first) static_cast<void>(show_all());
      const int code = report(json.error(), doing);
      if (!first && from) say_note("next: the same with --cursor " + cursor);
      return code;
    }
    for (const auto& item : json.value()->value("items", Json::array())) items.add(item);
    const auto next = json.value()->value("next_cursor", std::string());
    look(*json.value());
    more = !next.empty() && next != cursor;
    cursor = next;
  }
  if (const auto shown = show_all(); !shown.ok()) return report(shown.error(), "");
  if (items.all().empty()) say_error(nothing);
  std::vector<std::string> begun;
  bool refused = false;
  std::size_t here = 0;
  for (const auto& item : items.all()) {
    const auto status = member(item, "status");
    if (status == "begun") begun.push_back(show_command(settings, item));
    here += status == "rotated_here" ? 1 : 0;
    refused |= status == "refused" || (status == "begun" && item.contains("detail"));
  }
  if (!begun.empty()) {
    say_error("begun, and not done yet: " + std::to_string(begun.size()));
    for (const auto& command : begun) say_note("next: " + command);
  }
  if (here > 0) {
    say_error("rotated here alone: " + std::to_string(here));
    say_note("next: end the values before where they are checked; they are still taken there");
  }
  return refused || here > 0 ? exit_code::kRefused : exit_code::kOk;
}

}  // namespace

int run_credential_rotate(const Settings& settings, const RotationOptions& options) {
  const auto doing = "rotate credential " + options.credential.name;
  return on_one(settings, options, doing, [&](Call& call) -> sdk::Result<std::string> {
    sdk::RotateRequest request;
    const auto& given = options.credential;
    if (!given.from_file.empty() || !given.from_env.empty() || !given.fields.empty()) {
      POSTERN_TRY(request.fields, read_fields(given));
    }
    POSTERN_TRY(request.generate, generate_of(options.generate));
    POSTERN_TRY(request.grace, duration_of(options.grace));
    POSTERN_TRY(request.expires_at, parse_expiry(given.expires));
    POSTERN_TRY(request.only_version, only_version(given));
    POSTERN_TRY(auto answer,
                call.client.rotate_credential(call.tenant, call.name, call.owner, request));
    if (!options.wait) return answer;
    POSTERN_TRY(answer, settled(call, std::move(answer)));
    POSTERN_TRY(const auto json, sdk::parse_json(answer));
    if (!json->contains("rotation") && member(*json, "problem") != "-") {
      return sdk::fail(ErrorKind::Refused, "it was rolled back: " + member(*json, "problem"));
    }
    return answer;
  });
}

int run_rotation_show(const Settings& settings, const RotationOptions& options) {
  return on_one(
      settings, options, "look up the rotation of " + options.credential.name,
      [](Call& call) { return call.client.rotation(call.tenant, call.name, call.owner); });
}

int run_rotation_set(const Settings& settings, const RotationOptions& options) {
  return on_one(settings, options, "say how " + options.credential.name + " is rotated",
                [&](Call& call) -> sdk::Result<std::string> {
                  POSTERN_TRY(const auto text, text_or_file(options.settings));
                  if (text.empty()) return sdk::fail(ErrorKind::Usage, "the settings are empty");
                  return call.client.configure_rotation(call.tenant, call.name, call.owner, text);
                });
}

int run_rotation_forget(const Settings& settings, const RotationOptions& options) {
  return on_one(settings, options, "forget how " + options.credential.name + " is rotated",
                [](Call& call) {
                  return call.client.configure_rotation(call.tenant, call.name, call.owner, "");
                });
}

int run_rotation_promote(const Settings& settings, const RotationOptions& options) {
  return on_one(settings, options, "hand out the new key of " + options.credential.name,
                [](Call& call) {
                  return call.client.steer_rotation(call.tenant, call.name, call.owner,
                                                    sdk::RotationStep::Promote);
                });
}

int run_rotation_retire(const Settings& settings, const RotationOptions& options) {
  return on_one(settings, options, "retire the value of " + options.credential.name + " before",
                [&](Call& call) {
                  return call.client.steer_rotation(call.tenant, call.name, call.owner,
                                                    options.abandon
                                                        ? sdk::RotationStep::AbandonRetire
                                                        : sdk::RotationStep::Retire);
                });
}

int run_rotation_cancel(const Settings& settings, const RotationOptions& options) {
  return on_one(
      settings, options, "give up the rotation of " + options.credential.name, [&](Call& call) {
        return call.client.steer_rotation(
            call.tenant, call.name, call.owner,
            options.abandon ? sdk::RotationStep::AbandonCancel : sdk::RotationStep::Cancel);
      });
}

int run_rotation_list(const Settings& settings, const RotationOptions& options) {
  constexpr const char* kDoing = "list rotations";
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  auto filter = filter_of(options.credential);
  if (!filter.ok()) return report(filter.error(), kDoing);
  Table table({"NAME", "OWNER", "AGE", "LAST USED", "DUE", "OVERDUE", "PHASE", "PROBLEM"});
  return each_page(
      settings, kDoing, std::move(table), "there is no such credential",
      [&](const std::string& cursor) {
        filter.value().cursor = cursor;
        return client.value().rotations(tenant.value(), filter.value());
      },
      {"age_seconds", "last_used_at", "rotation_due_at", "overdue", "phase", "problem"});
}

int run_rotation_bulk(const Settings& settings, const RotationOptions& options) {
  constexpr const char* kDoing = "rotate credentials";
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  const auto filter = filter_of(options.credential);
  if (!filter.ok()) return report(filter.error(), kDoing);
  Json request{{"dry_run", !options.yes}, {"labels", Json::object()}};
  for (const auto& [name, text] : filter.value().labels) request["labels"][name] = text;
  if (!filter.value().type.empty()) request["type"] = filter.value().type;
  return each_page(settings, kDoing, Table({"NAME", "OWNER", "STATUS", "DETAIL"}),
                   "no credential has these labels and this type: nothing was done",
                   [&](const std::string& cursor) {
                     if (!cursor.empty()) request["cursor"] = cursor;
                     return client.value().rotate_many(tenant.value(), request.dump());
                   },
                   {"status", "detail"});
}

int run_rotation_emergency(const Settings& settings, const RotationOptions& options) {
  constexpr const char* kDoing = "contain what was touched";
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  const auto since = parse_since(options.since);
  if (!since.ok()) return report(since.error(), kDoing);
  Json request{{"dry_run", !options.yes},
               {"since", since.value() ? format_time(*since.value()) : ""},
               {"action", options.action},
               {"reason", options.reason}};
  if (!options.credential.subject.empty() || !options.credential.issuer.empty()) {
    request["principal"] = {{"issuer", options.credential.issuer},
                            {"subject", options.credential.subject}};
  }
  if (!options.client.empty()) request["client"] = options.client;
  if (!options.backend.empty()) request["backend"] = options.backend;
  bool answered = false, complete = false;
  std::uint64_t tokens = 0, revoked = 0;
  std::string said;
  bool left_out = false;  ///< by the last page, after which there are no more records
  const int done = each_page(
      settings, kDoing, Table({"NAME", "OWNER", "USES", "LAST USED", "STATUS", "DETAIL"}),
      "no credential was touched since then, so none was rotated or disabled",
      [&](const std::string& cursor) {
        if (!cursor.empty()) request["cursor"] = cursor;
        return client.value().contain(tenant.value(), request.dump());
      },
      {"uses", "last_used_at", "status", "detail"},
      [&](const Json& page) {
        answered = true;
        complete = page.value("complete", false);
        tokens += page.value("tokens", std::uint64_t{0});
        revoked += page.value("tokens_revoked", std::uint64_t{0});
        // Each page of one part says so.
        const auto back_to = member(page, "searched_back_to");
        left_out = !page.contains("searched_back_to");
        if (complete || back_to == said || !page.contains("next_cursor")) return;
        say_note("searched back to " + back_to + ", going on");
        said = back_to;
      },
      options.cursor);
  if (!answered) return done;  // and said why
  std::cerr << "tokens and sessions: " << tokens << (options.yes ? ", revoked: " : ", to revoke: ")
            << (options.yes ? revoked : tokens) << '\n';
  if (!complete) {
    std::cerr << "not all was looked at: "
              << (left_out ? "some of what was found began in records that are too old\n"
                           : "there are more audit records\n");
  }
  const bool all = complete && (!options.yes || revoked == tokens);
  return done == exit_code::kOk && !all ? exit_code::kRefused : done;
}

}  // namespace postern::cli
