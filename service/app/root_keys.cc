#include "app/root_keys.h"

#include "vault/root_key_command.h"
#include "vault/root_key_passphrase.h"
#include "vault/root_key_pkcs11.h"

namespace postern::app {

std::unique_ptr<vault::RootKeyProvider> root_key_provider(const Config& config) {
  if (!config.root_key_command.empty()) {
    return std::make_unique<vault::RootKeyCommand>(config.root_key_command,
                                                   vault::RootKeyCommand::Options{});
  }
  if (!config.passphrase_file.empty()) {
    return std::make_unique<vault::RootKeyPassphrase>(config.root_key_file, config.passphrase_file,
                                                      read_secret_file);
  }
  if (!config.pkcs11.module.empty()) {
    return std::make_unique<vault::RootKeyPkcs11>(config.root_key_file, config.pkcs11,
                                                  read_secret_file);
  }
  return std::make_unique<vault::RootKeyFile>(config.root_key_file);
}

}  // namespace postern::app
