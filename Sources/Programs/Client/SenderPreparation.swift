import CSystem
import KnockBase
import KnockProtocol

/// Makes the senders of a call, from the command line and client.conf.
struct SenderPreparation: ~Copyable {
  private let given: ClientSettings
  /// Whether HOST stands beside -c, which then says where in client.conf to look.
  private let isBesideName: Bool
  /// Who gives a PSK says all himself, as with the original.
  private let readsConfiguration: Bool
  /// The key of all hosts, where the command line gives one. It can be read only once.
  private let mac: KeyedMAC?
  private let report: Report

  /// Why a host is not knocked on; it has been reported.
  struct Failure: Error {
    let exitCode: ExitCode
  }

  init(
    _ given: ClientSettings, _ operands: Operands, _ key: KeySource?, _ report: Report
  ) throws(KeyError) {
    self.given = given
    self.report = report
    isBesideName = given.config != nil && operands[1] != nil
    if case .operand = key { readsConfiguration = false } else { readsConfiguration = true }
    if let key { mac = try Key.load(key, report: report) } else { mac = nil }
  }

  /// - Parameter name: of a host, in the command line.
  func sender(to name: Argument) throws(Failure) -> Sender {
    var settings = given
    let section = isBesideName ? given.config ?? name : name
    if readsConfiguration, !ClientConfiguration.apply(section, to: &settings, report) {
      throw Failure(exitCode: .failure)
    }
    do throws(Misuse) {
      try settings.validateStunServers()
    } catch { throw fail(error) }
    let host = isBesideName ? name : settings.hostName ?? name
    let mac = try mac(settings, section)
    var signing = try signing(settings)
    let source = try source(settings)
    let addresses = try addresses(of: host, settings)
    if case .outside = signing { signing = try outside(addresses, settings, source) }
    return Sender(
      host: host, addresses: addresses, signing: signing, source: source, mac: mac,
      settings: settings, report: report)
  }

  private func fail(_ misuse: Misuse) -> Failure {
    Failure(exitCode: ClientApplet.fail(misuse, mayQuote: given.mayQuote))
  }

  private func mac(
    _ settings: ClientSettings, _ section: Argument
  ) throws(Failure) -> KeyedMAC {
    switch mac {
    case .some(let mac):
      if let copy = KeyedMAC(copying: mac) { return copy }
      report.write("fatal", SystemError(number: ENOMEM))
      throw Failure(exitCode: .failure)
    case nil:
      guard let path = settings.keyFile else { throw fail(.noKey(host: section)) }
      do throws(KeyError) {
        return try Key.load(.file(path), report: report)
      } catch { throw Failure(exitCode: ClientApplet.fail(error, from: .file(path), report)) }
    }
  }

  private func addresses(
    of host: Argument, _ settings: ClientSettings
  ) throws(Failure) -> Resolution {
    do throws(Resolution.Failure) {
      return try Resolution(
        of: host, port: settings.port, family: settings.family, numeric: false)
    } catch {
      report.write("cannot resolve", host) { $0.append(error) }
      throw Failure(exitCode: .cannotResolve)
    }
  }

  /// What `-S` says; for auto, nothing of the address yet.
  private func signing(_ settings: ClientSettings) throws(Failure) -> Signing {
    guard let text = settings.signAddress else { return .source }
    if text == "observed" { return .observed }
    if text == "auto" { return .outside(inet: nil, inet6: nil) }
    guard let address = SocketAddress(numeric: text)?.parts?.address else {
      report.writeNotNumeric("signed address", text, mayQuote: given.mayQuote)
      throw Failure(exitCode: .badSignedAddress)
    }
    if let refusal = address.refusal {
      var line = Line()
      line.append("signed address: no server opens for this: ")
      line.append(refusal.reason)
      report.write(line)
      throw Failure(exitCode: .badSignedAddress)
    }
    return .address(address)
  }

  /// What `-s` says.
  private func source(_ settings: ClientSettings) throws(Failure) -> SocketAddress? {
    guard let text = settings.sourceAddress else { return nil }
    guard let source = SocketAddress(numeric: text) else {
      report.writeNotNumeric("source address", text, mayQuote: given.mayQuote)
      throw Failure(exitCode: .badSourceAddress)
    }
    return source
  }

  /// Asks for our outside address in each family that is needed.
  private func outside(
    _ addresses: borrowing Resolution, _ settings: ClientSettings, _ source: SocketAddress?
  ) throws(Failure) -> Signing {
    let families = AddressFamilies { family in
      var position = 0
      while let address = addresses.address(at: position) {
        position += 1
        let isUsed = source == nil || source?.family == address.family
        if isUsed, address.parts?.address.family == family { return true }
      }
      return false
    }
    func find(_ family: AddressFamily) -> Address? {
      guard families.contains(family) else { return nil }
      return OutsideAddress.find(
        family, settings.stunServers, from: source, report,
        mayName: given.mayQuote || !settings.givesStunServers)
    }
    let (inet, inet6) = (find(.inet), find(.inet6))
    let isNeeded = families.contains(.inet) || families.contains(.inet6)
    guard !isNeeded || inet != nil || inet6 != nil else {
      throw Failure(exitCode: .badSignedAddress)
    }
    return .outside(inet: inet, inet6: inet6)
  }
}
