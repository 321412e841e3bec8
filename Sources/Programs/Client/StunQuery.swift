import KnockBase
import KnockProtocol

/// A question to one address of a STUN server, and what has become of it.
struct StunQuery: ~Copyable {
  /// Why there is no answer.
  fileprivate enum Failure {
    case silence
    case answer(StunRequest.Failure)
    case system(AddressFailure)
    case resolution(Resolution.Failure)
  }

  private let server: StunServer
  /// Nil if the name of the server has none.
  private let address: SocketAddress?
  private let request = StunRequest.random()
  /// None once no answer can come.
  private var socket = UDPSocket.none
  private var failure = Failure.silence

  /// - Parameter source: the local address to ask from, if it matters.
  @inline(never)
  init(to server: StunServer, at address: SocketAddress, from source: SocketAddress?) {
    self.server = server
    self.address = address
    do throws(SystemError) {
      socket = try UDPSocket(to: address, from: source)
    } catch { failure = .system(AddressFailure(error, address, from: source)) }
  }

  /// A question that could not be asked, because the server's name has no address.
  @inline(never)
  init(to server: StunServer, failed failure: Resolution.Failure) {
    self.server = server
    address = nil
    self.failure = .resolution(failure)
  }

  /// The descriptor to wait for; negative if no answer can come.
  var descriptor: Int32 { socket.number }

  /// Sends the question, or sends it again.
  @inline(never)
  mutating func send() {
    guard socket.isOpen else { return }
    do throws(SystemError) {
      try request.withBytes { bytes throws(SystemError) in try socket.send(bytes) }
    } catch { fail(error) }
  }

  /// The address in a good answer, if one has come.
  @inline(never)
  mutating func receive(into memory: borrowing Storage<UInt8>, onlyInet: Bool) -> Address? {
    guard socket.isOpen else { return nil }
    do throws(SystemError) {
      guard let length = try socket.receive(into: memory) else { return nil }
      return address(in: memory, length: length, onlyInet: onlyInet)
    } catch {
      fail(error)
      return nil
    }
  }

  private mutating func address(
    in memory: borrowing Storage<UInt8>, length: Int, onlyInet: Bool
  ) -> Address? {
    do throws(StunRequest.Failure) {
      guard length <= memory.count else { throw .malformed }
      return try memory.withElements(0..<length) { bytes throws(StunRequest.Failure) in
        try request.address(in: bytes, onlyInet: onlyInet)
      }
    } catch {
      failure = .answer(error)
      return nil
    }
  }

  @inline(never)
  private mutating func fail(_ error: SystemError) {
    if let address { failure = .system(AddressFailure(error, address)) }
    socket = .none
  }

  @inline(never)
  func logFailure() {
    if let address {
      log.error("\(server) at \(address): \(failure)")
    } else {
      log.error("\(server): \(failure)")
    }
  }
}

extension StunQuery.Failure: MessageConvertible {
  @inline(never)
  fileprivate var message: Message {
    switch self {
    case .silence: "no answer"
    case .answer(let failure): "\(failure.reason)"
    case .system(let failure): failure.message
    case .resolution(let failure): failure.message
    }
  }
}

extension StunRequest {
  fileprivate static func random() -> StunRequest {
    var transaction = InlineArray<12, UInt8>(repeating: 0)
    var bytes = transaction.mutableSpan
    bytes.fillWithRandomBytes()
    return StunRequest(transaction: transaction)
  }
}
