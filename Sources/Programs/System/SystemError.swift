import CSystem
import KnockBase

/// An error number of the system (errno).
struct SystemError: Error, Equatable {
  let number: Int32

  /// The result of a `csys_` function, or the error that it stands for if it is negative.
  @discardableResult
  static func check(_ result: Int32) throws(SystemError) -> Int32 {
    guard result >= 0 else { throw SystemError(number: -result) }
    return result
  }

  /// The result of a `csys_` function that does not wait; nil if it would have to.
  static func checkReady(_ result: Int32) throws(SystemError) -> Int? {
    result == -CSYS_EAGAIN ? nil : Int(try check(result))
  }
}

extension SystemError: MessageConvertible {
  /// The system's words for it. Source: strerror(3).
  var message: Message { unsafe "\(cString: csys_error_text(number))" }
}

extension TextSink where Self: ~Copyable {
  /// The system's words for an error. Source: strerror(3).
  mutating func append(_ error: SystemError) {
    unsafe append(cString: csys_error_text(error.number))
  }

  mutating func append(cString text: UnsafePointer<CChar>?) {
    guard var byte = unsafe text else { return }
    while unsafe byte.pointee != 0 {
      append(byte: UInt8(bitPattern: unsafe byte.pointee))
      unsafe byte += 1
    }
  }
}

extension Report {
  /// Writes `what: the system's words`.
  func write(_ what: StaticString, _ error: SystemError) {
    var line = Line(.error)
    line.append(what)
    line.append(": ")
    line.append(error)
    write(line)
  }
}
