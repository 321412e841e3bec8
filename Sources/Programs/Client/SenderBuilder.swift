import KnockBase
import KnockProtocol

/// Makes the senders of a command line, with what client.conf says about the hosts.
struct SenderBuilder: ~Copyable {
  private let given: ClientSettings
  /// Whether there is a HOST besides `-c NAME`. NAME then only says which section of client.conf counts.
  private let isBesideName: Bool
  /// With a PSK nothing is read from client.conf, as with the original.
  private let readsConfiguration: Bool
  /// The key of all hosts, if the command line gives one. It can be read only once.
  private let commonKey: KeyedMAC?

  @inline(never)
  init(
    _ given: ClientSettings, _ operands: Operands, _ keySource: KeySource?
  ) throws(ClientError) {
    self.given = given
    isBesideName = given.config != nil && operands[1] != nil
    if case .operand = keySource { readsConfiguration = false } else { readsConfiguration = true }
    given.sourceAddress?.logOldForm("source address")
    if let keySource { commonKey = try Self.key(from: keySource) } else { commonKey = nil }
  }

  @inline(never)
  private static func key(from source: KeySource) throws(ClientError) -> KeyedMAC {
    do throws(KeyError) {
      let key = try Key(from: source)
      key.logWarnings(about: source)
      return key.expanded
    } catch { throw .key(error, source) }
  }

  /// - Parameter name: a host as the command line names it.
  @inline(never)
  func sender(to name: Argument) throws(ClientError) -> Sender {
    var settings = given
    let section = isBesideName ? given.config ?? name : name
    if readsConfiguration { try ClientConfiguration.apply(section, to: &settings) }
    do throws(Misuse) {
      try settings.validateStunServers()
    } catch { throw .misuse(error) }
    let host = isBesideName ? name : settings.hostName ?? name
    host.logOldForm("HOST")
    let key = try key(settings, section)
    let signed = try signedAddress(settings)
    let source = try source(settings)
    do throws(SystemError) {
      return try Sender(
        host: host,
        addresses: Resolution(of: host, port: settings.port, family: settings.family),
        signed: signed, source: source, key: key, settings: settings)
    } catch { throw .system(error) }
  }

  @inline(never)
  private func key(
    _ settings: ClientSettings, _ section: Argument
  ) throws(ClientError) -> KeyedMAC {
    switch commonKey {
    case .some(let key):
      guard let copy = KeyedMAC(copying: key) else { throw .system(.outOfMemory) }
      return copy
    case nil:
      if let key = settings.key { return try Self.key(from: .setting(key)) }
      guard let path = settings.keyFile else { throw .misuse(.noKey(host: section)) }
      return try Self.key(from: .configuredFile(path))
    }
  }

  /// What `-S` says. For `auto`, the public addresses are still to be found.
  private func signedAddress(_ settings: ClientSettings) throws(ClientError) -> SignedAddress {
    guard let text = settings.signAddress else { return .source }
    if text == "observed" { return .observed }
    if text == "auto" { return .unknownPublic }
    guard let address = Address(text) else { throw .badSignedAddress(text) }
    if let refusal = address.refusal { throw .refusedSignedAddress(refusal) }
    return .address(address)
  }

  /// What `-s` says.
  private func source(_ settings: ClientSettings) throws(ClientError) -> SocketAddress? {
    guard let text = settings.sourceAddress else { return nil }
    guard let source = SocketAddress(numeric: text) else { throw .badSourceAddress(text) }
    return source
  }
}
