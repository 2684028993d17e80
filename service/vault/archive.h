#pragma once

#include <cstdint>
#include <istream>
#include <memory>
#include <optional>
#include <ostream>
#include <string>

#include "core/bytes.h"
#include "core/result.h"
#include "core/secret.h"
#include "crypto/passphrase.h"

/// A file of records that only who has its passphrase can read or make:
///
///   postern-archive-v1:<passes>:<memory in MiB>:<base64url of 16 bytes of salt>\n
///   then for each record: 1 byte, 1 for the last and 0 for others; u32 length,
///   big-endian; crypto::seal(key, record)
///
/// with the key that Argon2id makes of the passphrase. The associated data is
/// "postern-archive-v1", the first line without its end, the record's number from 0,
/// and that byte. So no record can be altered, left out, repeated or moved, none of
/// another archive put in, and nothing cut off or added at the end.
namespace postern::vault {

inline constexpr std::size_t kMostRecordBytes = 64 * 1024 * 1024;
inline constexpr std::size_t kLeastPassphraseBytes = 16;

class ArchiveWriter {
 public:
  /// Writes the first line. Errors: MalformedRequest (a passphrase that is too short,
  /// a cost out of bounds), Unavailable.
  static Result<ArchiveWriter> begin(std::ostream& out, ByteView passphrase,
                                     crypto::StretchCost cost = {});

  enum class Place { Between, Last };
  /// Nothing can follow the last. Errors: TooLarge; Unavailable when it cannot be written.
  Status add(ByteView record, Place place = Place::Between);

 private:
  ArchiveWriter(std::ostream& out, std::string first_line, Dek key)
      : out_(&out), first_line_(std::move(first_line)), key_(std::move(key)) {}

  std::ostream* out_;
  std::string first_line_;
  Dek key_;
  std::uint64_t number_ = 0;
  bool ended_ = false;
};

class ArchiveReader {
 public:
  /// Reads the first line. Errors: MalformedRequest when this is no archive;
  /// Unavailable when there is not the memory it asks for.
  static Result<ArchiveReader> begin(std::istream& in, ByteView passphrase);

  /// The same archive from its beginning, without stretching the passphrase again.
  /// Errors: MalformedRequest when the first line is another.
  Result<ArchiveReader> again(std::istream& in) const;

  /// The first line, without its end: no two archives have the same.
  const std::string& first_line() const noexcept { return first_line_; }

  /// The next record, and nothing after the last. Errors: MalformedRequest, alike for
  /// another passphrase, a file that was altered and one that was cut off.
  Result<std::optional<Plaintext>> next();

 private:
  ArchiveReader(std::istream& in, std::string first_line, Dek key)
      : in_(&in), first_line_(std::move(first_line)), key_(std::move(key)) {}

  std::istream* in_;
  std::string first_line_;
  Dek key_;
  std::uint64_t number_ = 0;
  bool ended_ = false;
};

}  // namespace postern::vault
