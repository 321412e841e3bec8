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
  private let purpose: Version2.Purpose

  @inline(never)
  init(
    _ given: ClientSettings, _ purpose: Version2.Purpose, _ operands: Operands,
    _ keySource: KeySource?
  ) throws(ClientError) {
    self.given = given
    self.purpose = purpose
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
    if key.version == 1 { try checkVersion1(settings, name) }
    let signed = try signedAddress(settings)
    let source = try source(settings)
    do throws(SystemError) {
      return try Sender(
        name: name, isConfigured: !isBesideName && settings.hostName != nil,
        addresses: Resolution(of: host, port: settings.port, family: settings.family),
        signed: signed, source: source, key: key, settings: settings,
        isCheck: purpose == .check)
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
      return try Self.key(from: .hiddenFile(path))
    }
  }

  /// Refuses what only a key of version 2 can do. What client.conf says of that does not count.
  @inline(never)
  private func checkVersion1(
    _ settings: ClientSettings, _ name: Argument
  ) throws(ClientError) {
    let asked: Literal? =
      purpose == .check
      ? "check" : given.ttlSeconds > 0 ? "--ttl" : given.wantsAnswer == true ? "--answer" : nil
    if let asked { throw .needsVersion2(asked, host: name) }
    if settings.ttlSeconds > 0 || settings.wantsAnswer == true {
      log.debug(
        "\(quoted: name): Ttl and Answer do not count, since the key is of version 1")
    }
  }

  /// What `-S` says. For `auto`, the public addresses are still to be found. A check asks which one the server sees.
  private func signedAddress(_ settings: ClientSettings) throws(ClientError) -> SignedAddress {
    guard let text = settings.signAddress else { return purpose == .check ? .observed : .source }
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
