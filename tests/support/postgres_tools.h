#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>

namespace postern::test {

/// Path of a client program of the PostgreSQL that is installed.
inline std::string postgres_tool(const std::string& name) {
  for (const auto& entry : std::filesystem::directory_iterator("/usr/lib/postgresql")) {
    const auto file = entry.path() / "bin" / name;
    if (std::filesystem::exists(file)) return file.string();
  }
  throw std::runtime_error("no " + name);
}

}  // namespace postern::test
