import CSystem
import KnockBase

/// An error number of the system (errno).
struct SystemError: Error, Equatable {
  let number: Int32

  /// The system's words for it. Source: strerror(3).
  var text: UnsafePointer<CChar>? { unsafe csys_error_text(number) }

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

extension TextSink where Self: ~Copyable {
  /// A string of the C library.
  mutating func append(cString text: UnsafePointer<CChar>?) {
    guard var byte = unsafe text else { return }
    while unsafe byte.pointee != 0 {
      append(byte: UInt8(bitPattern: unsafe byte.pointee))
      unsafe byte += 1
    }
  }
}
