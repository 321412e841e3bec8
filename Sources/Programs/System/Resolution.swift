import CSystem
import KnockBase

/// The addresses of a name. Source: getaddrinfo(3).
@safe struct Resolution: ~Copyable {
  private var head: UnsafeMutablePointer<addrinfo>?

  /// Why a name has no addresses: an EAI_ number of getaddrinfo(3).
  struct Failure: Error {
    let number: Int32
  }

  /// - Parameters:
  ///   - host: a name or a numeric address.
  ///   - port: in host order.
  ///   - family: nil for both.
  ///   - numeric: whether names are refused.
  init(
    of host: Argument, port: UInt16, family: AddressFamily?, numeric: Bool
  ) throws(Failure) {
    let family = family.map { $0 == .inet ? AF_INET : AF_INET6 } ?? AF_UNSPEC
    var digits = TextBuffer<8>()
    digits.append(port)
    digits.append(byte: 0)
    let error = digits.withBytes { digits in
      unsafe digits.withUnsafeBytes { digits in
        let port = unsafe digits.baseAddress?.assumingMemoryBound(to: CChar.self)
        return unsafe csys_resolve(host.pointer, port, family, numeric ? 1 : 0, &head)
      }
    }
    guard error == 0 else { throw Failure(number: error) }
  }

  deinit {
    // Not every C library takes NULL.
    if let head = unsafe head { unsafe freeaddrinfo(head) }
  }

  /// The addresses in the order of the system, each once; nil after the last.
  func address(at position: Int) -> SocketAddress? {
    var left = position
    var entry = unsafe head
    while let found = unsafe entry {
      if let address = unsafe SocketAddress(found), unsafe isFirst(found) {
        guard left > 0 else { return address }
        left -= 1
      }
      unsafe entry = unsafe found.pointee.ai_next
    }
    return nil
  }

  var first: SocketAddress? { address(at: 0) }

  /// Whether no entry before this one has the same address.
  private func isFirst(_ found: UnsafeMutablePointer<addrinfo>) -> Bool {
    var entry = unsafe head
    while let earlier = unsafe entry, unsafe earlier != found {
      if unsafe earlier.pointee.ai_addrlen == found.pointee.ai_addrlen,
        unsafe memcmp(
          earlier.pointee.ai_addr, found.pointee.ai_addr, Int(found.pointee.ai_addrlen)) == 0
      {
        return false
      }
      unsafe entry = unsafe earlier.pointee.ai_next
    }
    return true
  }
}

extension Resolution.Failure: MessageConvertible {
  var message: Message { unsafe "\(cString: csys_resolve_error(number))" }
}

extension TextSink where Self: ~Copyable {
  mutating func append(_ failure: Resolution.Failure) {
    unsafe append(cString: csys_resolve_error(failure.number))
  }
}
