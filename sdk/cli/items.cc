#include "cli/items.h"

#include <algorithm>
#include <utility>

#include "cli/output.h"
#include "core/ids.h"

namespace postern::cli {

sdk::Result<std::vector<sdk::TargetItem>> wanted_items(const std::string& backends,
                                                       const std::vector<std::string>& scopes) {
  std::vector<sdk::TargetItem> items;
  std::string rest = backends + ",";
  while (!rest.empty()) {
    const auto comma = rest.find(',');
    sdk::TargetItem item;
    item.backend = rest.substr(0, comma);
    rest.erase(0, comma + 1);
    if (const auto id = BackendId::parse(item.backend); !id.ok()) {
      return sdk::fail(sdk::ErrorKind::Usage,
                       "\"" + item.backend + "\" is no backend: " + id.error().detail);
    }
    const auto same = [&](const auto& other) { return other.backend == item.backend; };
    if (std::any_of(items.begin(), items.end(), same)) {
      return sdk::fail(sdk::ErrorKind::Usage, "backend " + item.backend + " is named twice");
    }
    items.push_back(std::move(item));
  }
  for (const auto& option : scopes) {
    const auto twice = [](const sdk::TargetItem& item) {
      return sdk::fail(sdk::ErrorKind::Usage, "--scope is given twice for " + item.backend);
    };
    const auto equals = option.find('=');
    const auto name = option.substr(0, std::min(equals, option.size()));
    const auto named = std::find_if(items.begin(), items.end(),
                                    [&](const auto& item) { return item.backend == name; });
    if (equals != option.npos && named != items.end()) {
      if (!named->scope.empty()) return twice(*named);
      named->scope = option.substr(equals + 1);
    } else if (items.size() == 1) {
      if (!items[0].scope.empty()) return twice(items[0]);
      items[0].scope = option;
    } else {
      return sdk::fail(sdk::ErrorKind::Usage,
                       "with several backends, --scope needs to say which: --scope \"" +
                           items[0].backend + "=" + option + "\"");
    }
    // Left empty by an unset variable it would mean all that there is.
    const auto& changed = named != items.end() ? *named : items[0];
    if (changed.scope.find_first_not_of(' ') == std::string::npos) {
      return sdk::fail(sdk::ErrorKind::Usage,
                       "--scope is empty; leave it out to ask for all that is permitted");
    }
  }
  return items;
}

void show_refusal(const std::string& backend, const std::string& error, const std::string& detail,
                  const std::string& connect_url) {
  const auto& why = detail.empty() ? error : detail;
  say_error("backend " + printable(backend) + " is refused: " + printable(why) + " (" +
            printable(error) + ")");
  sdk::Error refused = sdk::fail(sdk::ErrorKind::Refused, why);
  refused.code = error;
  refused.connect_url = connect_url;
  if (const auto next = next_step(refused); !next.empty()) say_note("next: " + next);
}

}  // namespace postern::cli
