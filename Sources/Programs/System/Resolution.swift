import CSystem
import KnockBase

/// The addresses of a host. Source: getaddrinfo(3).
@safe struct Resolution: ~Copyable {
  private let found: UnsafeMutableRawPointer?
  private let port: UInt16

  /// Why a host has no addresses: a number that `csys_resolve_error` explains.
  struct Failure: Error {
    let number: Int32

    /// The C library's words for it.
    var text: UnsafePointer<CChar>? { unsafe csys_resolve_error(number) }
  }

  /// - Parameters:
  ///   - host: a name or a numeric address.
  ///   - port: of all addresses, in host order.
  ///   - family: nil for both.
  ///   - numeric: whether names are refused.
  init(
    of host: Argument, port: UInt16, family: AddressFamily?, numeric: Bool
  ) throws(Failure) {
    var found: UnsafeMutableRawPointer?
    let error = unsafe csys_look_up(
      host.pointer, family?.number ?? CSYS_ANY_FAMILY, numeric ? 1 : 0, &found)
    guard error == 0 else { throw Failure(number: error) }
    unsafe self.found = unsafe found
    self.port = port
  }

  deinit { unsafe csys_free_found(found) }

  /// The addresses in the order of the system, each once; nil after the last.
  func address(at position: Int) -> SocketAddress? {
    unsafe SocketAddress(port: port) { unsafe csys_found_address(found, position, $0) }
  }
}
