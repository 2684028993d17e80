#include "audit/event.h"

#include <algorithm>

#include "core/json_text.h"
#include "core/time_format.h"

namespace postern::audit {
namespace {

void append_fields(std::string& out, const Event& event) {
  using Field = std::pair<std::string, std::string>;
  std::vector<const Field*> sorted;
  sorted.reserve(event.fields.size());
  for (const auto& field : event.fields) {
    if (!field.second.empty()) sorted.push_back(&field);
  }
  const auto by_name = [](const Field* a, const Field* b) { return a->first < b->first; };
  std::stable_sort(sorted.begin(), sorted.end(), by_name);
  out += '{';
  const Field* previous = nullptr;
  for (const auto* field : sorted) {
    // A repeated name would make the object ambiguous: the first value stays.
    if (previous != nullptr && previous->first == field->first) continue;
    if (previous != nullptr) out += ',';
    append_json_string(out, field->first);
    out += ':';
    append_json_string(out, field->second);
    previous = field;
  }
  out += '}';
}

}  // namespace

std::string_view to_string(Outcome outcome) noexcept {
  switch (outcome) {
    case Outcome::Allowed: return "allowed";
    case Outcome::Refused: return "refused";
    case Outcome::Failed: return "failed";
  }
  return "failed";
}

std::string canonical(const Event& event) {
  std::size_t size = 128 + event.action.size() + event.request_id.size();
  for (const auto& [name, value] : event.fields) size += name.size() + value.size() + 8;
  std::string out;
  out.reserve(size);
  out += R"({"action":)";
  append_json_string(out, event.action);
  out += R"(,"at":")";
  out += format_time(event.at);
  out += R"(","fields":)";
  append_fields(out, event);
  out += R"(,"outcome":")";
  out += to_string(event.outcome);
  out += R"(","request_id":)";
  append_json_string(out, event.request_id);
  out += '}';
  return out;
}

}  // namespace postern::audit
