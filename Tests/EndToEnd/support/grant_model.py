"""A model of grants in sets: what the list and the sets must have after each event."""

import ipaddress
from datetime import datetime


def networks(elements):
    """What the elements of a set hold, as the fewest networks."""
    found = []
    for element in elements:
        first, _, last = element.partition("-")
        ends = [ipaddress.ip_address(end) for end in (first, last)] if last else []
        found += ipaddress.summarize_address_range(*ends) if last else [ipaddress.ip_network(element)]
    return set(ipaddress.collapse_addresses(found))


class Model:
    """The end of each grant (seconds since 1970), by its user, address, set and network.

    The end is None if the set was gone when the grant ended. Such a grant stays listed until a later attempt closes
    it: at the next close of its address by its user, or the next start.
    """

    def __init__(self):
        self.grants, self.gone = {}, set()

    def open(self, user, address, name, bits, end):
        grant = user, address, name, ipaddress.ip_network(f"{address}/{bits}", strict=False)
        if name in self.gone:
            self.grants.pop(grant, None)
        else:
            self.grants[grant] = end

    def close(self, user, address):
        self._end(lambda grant, end: grant[:2] == (user, address))

    def remove(self, user):
        self._end(lambda grant, end: grant[0] == user)

    def expire(self, now):
        self._end(lambda grant, end: end is not None and end <= now)

    def restart(self):
        self._end(lambda grant, end: end is None)

    def put_back(self, name):
        """The set is there again, but empty. The server has taken what is not in it off the list."""
        self.gone.remove(name)
        self.grants = {grant: end for grant, end in self.grants.items() if grant[2] != name or end is None}

    def _end(self, is_meant):
        for grant in [grant for grant, end in self.grants.items() if is_meant(grant, end)]:
            if grant[2] in self.gone:
                self.grants[grant] = None
            else:
                del self.grants[grant]

    def held(self, name):
        """The networks of a set; none if it is gone."""
        held = [grant[3] for grant, end in self.grants.items() if grant[2] == name and end is not None]
        return set() if name in self.gone else set(ipaddress.collapse_addresses(held))

    def is_near_an_end(self, now, margin):
        return any(end and abs(end - now) < margin for end in self.grants.values())

    def is_listed(self, items):
        """Whether the items of status --json are the grants. Their times have no fractions of a second."""
        found = {}
        for item in items:
            grant = item["user"], item["address"], item["set"].rpartition("/")[2], ipaddress.ip_network(item["range"])
            found[grant] = datetime.fromisoformat(item["ends"]).timestamp()
        return (
            len(items) == len(found)
            and found.keys() == self.grants.keys()
            and all(end is None or abs(end - found[grant]) < 2 for grant, end in self.grants.items())
        )
