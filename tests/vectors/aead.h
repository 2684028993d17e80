#pragma once

#include <string_view>

/// Known answers for sealed boxes and keyed hashes, in hex; see SOURCE.md.
namespace postern::vectors {

inline constexpr std::string_view kSealKey =
    "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f";
inline constexpr std::string_view kSealAad = "50515253c0c1c2c3c4c5c6c7";
inline constexpr std::string_view kSealPlaintext =
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    "sunscreen would be it.";
inline constexpr std::string_view kSealedBox =
    "01"                                                                // version
    "9e2ac7f3930fee80c382f4c283485bcd7275f920f5f336784c15d68376fe0643"  // commitment
    "404142434445464748494a4b4c4d4e4f5051525354555657"                  // nonce
    "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"  // ciphertext
    "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452"
    "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
    "21f9664c97637da9768812f615c68b13b52e"
    "c0875924c1c7987947deafd8780acf49";  // tag

// crypto_kdf of libsodium: BLAKE2b-256 with kSealKey as key, the id as salt and
// the label as personalisation.
inline constexpr std::string_view kSubkeyLookup1 =
    "8a57eb503db09822d12d3a2b6fa73f0b29e634f5370b01745bde32c16cd35628";
inline constexpr std::string_view kSubkeyLookup2 =
    "80bf95bdc1430cd959e9a800b5d001575a7d767973f14ff7d3679633ca094ac4";

// Over the parts "ab" and "c", each behind its length in 8 bytes.
inline constexpr std::string_view kSha256OfParts =
    "601d5476e2ccfe2c87a2bba7a322659734a05749d5b5aa781f513e4912db0d5f";
inline constexpr std::string_view kKeyedHashOfParts =  // with kSealKey
    "2f8bddd9f017522a9b9f6752e1ce436b0857fb9e9409ec5066f1f00bddf2f949";

}  // namespace postern::vectors
