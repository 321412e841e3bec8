import Foundation
import KnockBase

/// Text for a test to look at.
public struct Text: TextSink {
  public private(set) var bytes: [UInt8] = []

  public init() {}

  public mutating func append(byte: UInt8) { bytes.append(byte) }
}

/// What `body` writes.
public func text(_ body: (inout Text) -> Void) -> String {
  var text = Text()
  body(&text)
  return String(decoding: text.bytes, as: UTF8.self)
}

public func address(_ bytes: [UInt8]) -> Address? { Address(networkBytes: bytes.span) }

/// The address that inet_pton(3) takes from the text.
public func address(_ text: String) -> Address? {
  var bytes = [UInt8](repeating: 0, count: 16)
  if inet_pton(AF_INET, text, &bytes) == 1 { return address(Array(bytes[..<4])) }
  return inet_pton(AF_INET6, text, &bytes) == 1 ? address(bytes) : nil
}
