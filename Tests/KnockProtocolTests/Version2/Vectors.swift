import Foundation
import KnockProtocol
import TestSupport

/// The known answers for version 2, which another implementation made.
struct Vectors: Decodable {
  struct Key: Decodable {
    let serverID, secret, text, id, tag, mask, answerTag, answerMask, idMask: String

    private enum CodingKeys: String, CodingKey {
      case serverID = "S"
      case secret = "K"
      case text, id
      case tag = "kTag"
      case mask = "kMask"
      case answerTag = "kAnswer"
      case answerMask = "kAmask"
      case idMask = "sMask"
    }
  }

  struct KeyText: Decodable {
    let text, result: String
  }

  let keys: [Key]
  let keyTexts: [KeyText]

  static let all = Result {
    let file = URL(filePath: #filePath).appending(path: "../../../Vectors/version2.json")
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(Vectors.self, from: Data(contentsOf: file.standardized))
  }
}

/// The bytes that a text of hexadecimal digits stands for.
func bytes(_ hex: String) -> [UInt8] {
  let digits = Array(hex.utf8)
  return stride(from: 0, to: digits.count, by: 2).map {
    UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16) ?? 0
  }
}

func bytes<let count: Int>(_ array: InlineArray<count, UInt8>) -> [UInt8] {
  array.indices.map { array[$0] }
}

/// A key of version 2 and all that is derived from it.
struct DerivedKey {
  let id, tag, mask, answerTag, answerMask, idMask: [UInt8]

  init(_ key: borrowing Version2.KeyBytes) {
    let all = bytes(key.bytes)
    let secret = TestKey(Array(all[Version2.KeyBytes.secret]))
    id = Array(bytes(key.derive(.id, by: secret))[..<8])
    tag = bytes(key.derive(.tag, by: secret))
    mask = bytes(key.derive(.mask, by: secret))
    answerTag = bytes(key.derive(.answerTag, by: secret))
    answerMask = bytes(key.derive(.answerMask, by: secret))
    let server = TestKey(Array(all[Version2.KeyBytes.serverID]))
    idMask = bytes(key.derive(.idMask, by: server))
  }
}
