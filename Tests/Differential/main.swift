import KnockBase
import KnockProtocol
import TestSupport

// Seals and opens what the lines of the standard input say, for Tests/Differential/run. That explains the lines.

func hex(_ bytes: [UInt8]) -> String {
  let digits = Array("0123456789abcdef".utf8)
  return String(
    decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
}

func text(_ address: Address?) -> String {
  guard let address else { return "-" }
  let bytes = address.networkBytes
  return hex((0..<address.family.byteCount).map { bytes[$0] })
}

func named(_ text: String) -> Address? { text == "-" ? nil : address(bytes(text)) }

/// The key that a text stands for, or why it is none.
func derivedKey(_ text: [UInt8]) throws(Version2.KeyTextFault) -> DerivedKey {
  var read = Version2.KeyBytes()
  try read.read(text.span)
  let bytes = (0..<Version2.KeyBytes.size).map { read.bytes[$0] }
  let secret = Array(bytes[Version2.KeyBytes.secret])
  guard read.isWhole(by: TestKey(secret)) else { throw .check }
  return DerivedKey(serverID: Array(bytes[Version2.KeyBytes.serverID]), secret: secret)
}

func answer(to words: [String], _ key: inout DerivedKey) -> String? {
  let numbers = words.map { Int64($0) ?? 0 }
  switch words[0] {
  case "key":
    let text = bytes(words[1])
    guard Version2.KeyBytes.isMeant(by: text.span) else { return "version1" }
    do throws(Version2.KeyTextFault) {
      key = try derivedKey(text)
      return hex((0..<8).map { UInt8(truncatingIfNeeded: key.id >> (8 * UInt64($0))) })
    } catch { return "\(error)" }
  case "seal-request":
    guard let purpose = Version2.Purpose(rawValue: UInt8(numbers[1])) else { return nil }
    return hex(
      key.seal(
        Version2.Request(
          purpose, wantsAnswer: numbers[2] == 1, seconds: UInt32(numbers[3]), time: numbers[4],
          address: named(words[5]))))
  case "open-request":
    do throws(Refusal) {
      let request = try key.open(bytes(words[1]))
      let flags = request.wantsAnswer ? 1 : 0
      return "\(request.purpose.rawValue) \(flags) \(request.seconds) \(request.time) "
        + text(request.address)
    } catch { return "\(error)" }
  case "seal-answer":
    return hex(
      key.seal(
        Version2.Answer(
          result: UInt8(numbers[2]), seconds: UInt32(numbers[3]), time: numbers[4],
          address: named(words[5])), to: bytes(words[1])))
  case "open-answer":
    guard let answer = key.open(bytes(words[2]), to: bytes(words[1])) else { return "ignored" }
    return "\(answer.result) \(answer.seconds) \(answer.time) \(text(answer.address))"
  default: return nil
  }
}

var key = DerivedKey(serverID: [], secret: [])
while let line = readLine() {
  guard let answer = answer(to: line.split(separator: " ").map(String.init), &key) else {
    fatalError("no such line: \(line)")
  }
  print(answer)
}
