#include "cli/import_backup.h"

#include <cstddef>
#include <string>

#include "postern/json.h"

namespace postern::cli {

using sdk::Json;

sdk::SecretBytes copy_of(std::string_view text) {
  sdk::SecretBytes out;
  sdk::append(out, text);
  return out;
}

sdk::SecretBytes earlier_text(const std::vector<Kept>& imports) {
  sdk::SecretJson json(Json::array());
  for (std::size_t i = 1; i < imports.size(); ++i) {
    json->push_back({sdk::view(imports[i].original), sdk::view(imports[i].rewritten)});
  }
  return sdk::dump_secret(*json);
}

bool add_earlier(std::vector<Kept>& imports, std::string_view text) {
  const auto json = sdk::parse_json(text);
  if (!json.ok() || !(*json.value()).is_array()) return false;
  for (const auto& entry : *json.value()) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_string()) {
      return false;
    }
    imports.push_back({copy_of(entry[0].get_ref<const std::string&>()),
                       copy_of(entry[1].get_ref<const std::string&>())});
  }
  return true;
}

}  // namespace postern::cli
