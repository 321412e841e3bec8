import Foundation

/// The known answers for version 2, which another implementation made.
public struct Vectors: Decodable {
  public struct Key: Decodable {
    public let serverID, secret, text, id, tag, mask, answerTag, answerMask, idMask: String
    public let good: [Good]

    private enum CodingKeys: String, CodingKey {
      case serverID = "S"
      case secret = "K"
      case text, id, good
      case tag = "kTag"
      case mask = "kMask"
      case answerTag = "kAnswer"
      case answerMask = "kAmask"
      case idMask = "sMask"
    }
  }

  /// A request, and perhaps an answer to it.
  public struct Good: Decodable {
    public let command, flags: UInt8
    public let seconds: UInt32
    public let micros, address, datagram: String
    public let answer: Answer?
  }

  public struct Answer: Decodable {
    public let result: UInt8
    public let seconds: UInt32
    public let micros, address, datagram: String
  }

  /// What a server or a client does with a datagram.
  public struct Case: Decodable {
    public let name, datagram, result: String
  }

  public struct Client: Decodable {
    public let tag: String
    public let answers: [Case]

    private enum CodingKeys: String, CodingKey {
      case tag = "T"
      case answers
    }
  }

  public struct KeyText: Decodable {
    public let text, result: String
  }

  public let keys: [Key]
  public let nowMicros: String
  public let driftSeconds: Int64
  public let serverWithTheFirstKey: [Case]
  public let clientThatSentGood: Client
  public let keyTexts: [KeyText]

  public static func read() throws -> Vectors {
    let file = URL(filePath: #filePath).appending(path: "../../Vectors/version2.json")
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(Vectors.self, from: Data(contentsOf: file.standardized))
  }
}

/// The bytes that a text of hexadecimal digits stands for.
public func bytes(_ hex: String) -> [UInt8] {
  let digits = Array(hex.utf8)
  return stride(from: 0, to: digits.count, by: 2).map {
    UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16) ?? 0
  }
}

public func bytes<let count: Int>(_ array: InlineArray<count, UInt8>) -> [UInt8] {
  array.indices.map { array[$0] }
}
