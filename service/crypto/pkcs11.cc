#include "crypto/pkcs11.h"

#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <mutex>
#include <string>
#include <vector>

namespace postern::crypto {
namespace {

Error problem(std::string what) {
  return fail(ErrorCode::Unavailable, "the PKCS #11 " + std::move(what));
}

/// What the commonest answers mean; the number of any other.
std::string meaning(CK_RV code) {
  switch (code) {
    case CKR_PIN_INCORRECT:
    case CKR_PIN_INVALID:
    case CKR_PIN_LEN_RANGE: return "the PIN is wrong";
    case CKR_PIN_LOCKED: return "the PIN is locked";
    case CKR_PIN_EXPIRED: return "the PIN has expired";
    case CKR_USER_PIN_NOT_INITIALIZED: return "the token has no user PIN yet";
    case CKR_MECHANISM_INVALID: return "the token cannot do AES-GCM";
    case CKR_DEVICE_REMOVED:
    case CKR_TOKEN_NOT_PRESENT: return "the token was removed";
    case CKR_CRYPTOKI_ALREADY_INITIALIZED: return "the module is in use by this process already";
    default: {
      std::array<char, 16> digits{};
      const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), code, 16).ptr;
      return "error 0x" + std::string(digits.data(), end);
    }
  }
}

unsigned char* raw(ByteView bytes) {
  return const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
}
unsigned char* raw(std::string_view text) { return raw(as_bytes(text)); }

template <class Value>
CK_ATTRIBUTE attribute(CK_ATTRIBUTE_TYPE type, Value& value) {
  return {type, &value, sizeof value};
}
CK_ATTRIBUTE text_attribute(CK_ATTRIBUTE_TYPE type, std::string_view text) {
  return {type, raw(text), text.size()};
}

bool is_padded(const unsigned char* field, std::size_t size, std::string_view label) {
  const std::string_view text(reinterpret_cast<const char*>(field), size);
  return text.starts_with(label) &&
         text.find_first_not_of(' ', label.size()) == std::string_view::npos;
}

bool only_ours_can_change(const std::filesystem::path& file) {
  struct stat facts {};
  return ::stat(file.c_str(), &facts) == 0 && S_ISREG(facts.st_mode) &&
         (facts.st_uid == 0 || facts.st_uid == ::geteuid()) &&
         (facts.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

}  // namespace

struct Pkcs11Token::Impl {
  CK_FUNCTION_LIST* module = nullptr;
  bool initialised = false;
  CK_SESSION_HANDLE session = CK_INVALID_HANDLE;

  Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    if (session != CK_INVALID_HANDLE) module->C_CloseSession(session);
    if (initialised) module->C_Finalize(nullptr);
  }

  Result<CK_SLOT_ID> slot_of(std::string_view label) const {
    CK_ULONG count = 0;
    if (const auto code = module->C_GetSlotList(CK_TRUE, nullptr, &count); code != CKR_OK) {
      return problem("module lists no tokens: " + meaning(code));
    }
    std::vector<CK_SLOT_ID> slots(count);
    if (const auto code = module->C_GetSlotList(CK_TRUE, slots.data(), &count); code != CKR_OK) {
      return problem("module lists no tokens: " + meaning(code));
    }
    slots.resize(std::min<std::size_t>(count, slots.size()));
    const CK_SLOT_ID* found = nullptr;
    for (const auto& slot : slots) {
      CK_TOKEN_INFO info{};
      if (module->C_GetTokenInfo(slot, &info) != CKR_OK) continue;
      if (!is_padded(info.label, sizeof info.label, label)) continue;
      if (found != nullptr) return problem("module has two tokens of this label");
      found = &slot;
    }
    if (found == nullptr) return problem("module has no token of this label");
    return *found;
  }

  Result<CK_OBJECT_HANDLE> key(std::string_view label) const {
    CK_OBJECT_CLASS kind = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_AES;
    std::array<CK_ATTRIBUTE, 3> wanted{attribute(CKA_CLASS, kind), attribute(CKA_KEY_TYPE, type),
                                       text_attribute(CKA_LABEL, label)};
    std::array<CK_OBJECT_HANDLE, 2> handles{};
    CK_ULONG count = 0;
    auto code = module->C_FindObjectsInit(session, wanted.data(), wanted.size());
    if (code == CKR_OK) {
      code = module->C_FindObjects(session, handles.data(), handles.size(), &count);
      module->C_FindObjectsFinal(session);
    }
    if (code != CKR_OK) return problem("token does not look for keys: " + meaning(code));
    if (count == 0) {
      return fail(ErrorCode::NotFound,
                  "the PKCS #11 token has no AES key labelled " + std::string(label));
    }
    if (count > 1) {
      return fail(ErrorCode::Conflict,
                  "the PKCS #11 token has two AES keys labelled " + std::string(label));
    }
    return handles[0];
  }
};

Pkcs11Token::Pkcs11Token(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Pkcs11Token::~Pkcs11Token() = default;
Pkcs11Token::Pkcs11Token(Pkcs11Token&&) noexcept = default;

Result<Pkcs11Token> Pkcs11Token::open(const std::filesystem::path& module, std::string_view label,
                                      std::string_view pin) {
  if (!module.is_absolute()) return problem("module must be an absolute path");
  if (!only_ours_can_change(module)) {
    return problem("module " + module.string() +
                   " is no file, or may be changed by others than root and this user");
  }
  void* library = ::dlopen(module.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) return problem("module " + module.string() + " cannot be loaded");
  const auto list = reinterpret_cast<CK_C_GetFunctionList>(::dlsym(library, "C_GetFunctionList"));
  auto impl = std::make_unique<Impl>();
  if (list == nullptr || list(&impl->module) != CKR_OK || impl->module == nullptr) {
    return problem("module " + module.string() + " is none: it has no C_GetFunctionList");
  }
  CK_C_INITIALIZE_ARGS arguments{};
  arguments.flags = CKF_OS_LOCKING_OK;
  if (const auto code = impl->module->C_Initialize(&arguments); code != CKR_OK) {
    return problem("module " + module.string() + " does not start: " + meaning(code));
  }
  impl->initialised = true;
  POSTERN_TRY(const auto slot, impl->slot_of(label));
  // Reading and writing: keys are made in such a session only.
  auto code = impl->module->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr,
                                          nullptr, &impl->session);
  if (code != CKR_OK) return problem("token opens no session: " + meaning(code));
  code = impl->module->C_Login(impl->session, CKU_USER, raw(pin), pin.size());
  if (code != CKR_OK && code != CKR_USER_ALREADY_LOGGED_IN) {
    return fail(ErrorCode::Unauthenticated, "the PKCS #11 token " + std::string(label) +
                                                " does not let us in: " + meaning(code));
  }
  return Pkcs11Token(std::move(impl));
}

Status Pkcs11Token::find_key(std::string_view label) {
  POSTERN_TRY([[maybe_unused]] const auto key, impl_->key(label));
  return {};
}

Status Pkcs11Token::make_key(std::string_view label) {
  const auto known = impl_->key(label);
  if (known.ok() || known.error().code == ErrorCode::Conflict) {
    return fail(ErrorCode::Conflict,
                "the PKCS #11 token has an AES key labelled " + std::string(label));
  }
  if (known.error().code != ErrorCode::NotFound) return known.error();
  CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
  CK_ULONG size = 32;
  std::array<CK_ATTRIBUTE, 11> wanted{
      attribute(CKA_TOKEN, yes),       attribute(CKA_PRIVATE, yes),
      attribute(CKA_SENSITIVE, yes),   attribute(CKA_EXTRACTABLE, no),
      attribute(CKA_ENCRYPT, yes),     attribute(CKA_DECRYPT, yes),
      attribute(CKA_WRAP, no),         attribute(CKA_UNWRAP, no),
      attribute(CKA_SIGN, no),         attribute(CKA_VALUE_LEN, size),
      text_attribute(CKA_LABEL, label)};
  CK_MECHANISM mechanism{CKM_AES_KEY_GEN, nullptr, 0};
  CK_OBJECT_HANDLE made = 0;
  const auto code =
      impl_->module->C_GenerateKey(impl_->session, &mechanism, wanted.data(), wanted.size(), &made);
  if (code != CKR_OK) return problem("token makes no AES-256 key: " + meaning(code));
  return {};
}

namespace {

CK_GCM_PARAMS gcm(ByteView nonce, ByteView associated) {
  return {raw(nonce),      nonce.size(),      nonce.size() * 8,
          raw(associated), associated.size(), Pkcs11Token::kTagBytes * 8};
}

Error does_not_open() {
  return problem("token does not open what it is given: another key, or altered");
}

}  // namespace

Result<Bytes> Pkcs11Token::encrypt(std::string_view key, ByteView nonce, ByteView plain,
                                   ByteView associated) {
  POSTERN_TRY(const auto handle, impl_->key(key));
  auto parameters = gcm(nonce, associated);
  CK_MECHANISM mechanism{CKM_AES_GCM, &parameters, sizeof parameters};
  auto code = impl_->module->C_EncryptInit(impl_->session, &mechanism, handle);
  Bytes box(plain.size() + kTagBytes);
  CK_ULONG size = box.size();
  if (code == CKR_OK) {
    code = impl_->module->C_Encrypt(impl_->session, raw(plain), plain.size(),
                                    reinterpret_cast<unsigned char*>(box.data()), &size);
  }
  if (code != CKR_OK) return problem("token does not encrypt: " + meaning(code));
  if (size != box.size()) return problem("token's AES-GCM has another form than is known");
  return box;
}

Result<SecureBuffer> Pkcs11Token::decrypt(std::string_view key, ByteView nonce, ByteView box,
                                          ByteView associated) {
  // Never shown to the token: SoftHSM's session could then decrypt nothing more.
  if (box.size() < kTagBytes) return does_not_open();
  POSTERN_TRY(const auto handle, impl_->key(key));
  auto parameters = gcm(nonce, associated);
  CK_MECHANISM mechanism{CKM_AES_GCM, &parameters, sizeof parameters};
  auto code = impl_->module->C_DecryptInit(impl_->session, &mechanism, handle);
  // Some modules want room for the tag also where only the text is written.
  SecureBuffer plain(box.size());
  CK_ULONG size = plain.size();
  if (code == CKR_OK) {
    code =
        impl_->module->C_Decrypt(impl_->session, raw(box), box.size(),
                                 reinterpret_cast<unsigned char*>(plain.writable().data()), &size);
  }
  if (code == CKR_MECHANISM_INVALID || code == CKR_DEVICE_REMOVED) {
    return problem("token does not decrypt: " + meaning(code));
  }
  if (code != CKR_OK || size != box.size() - kTagBytes) return does_not_open();
  return SecureBuffer::copy_of(plain.readable().first(size));
}

}  // namespace postern::crypto
