"""The teams of a control plane, and the sessions that belong to them; no I/O."""

import hashlib
from collections.abc import Mapping

from ._ids import Ids
from ._refused import Refused, not_found


class Sessions:
    """The teams and the sessions; a session belongs to a team or, with `None`, to no team."""

    def __init__(self, ids: Ids, teams: Mapping[str, str] | None) -> None:
        self._ids = ids
        self._teams = None if teams is None else dict(teams)
        self._seen_teams: dict[str, str] = {}
        self._sessions: dict[str, str | None] = {}

    @property
    def teams(self) -> Mapping[str, str]:
        """The names of the teams by id; if none were given, those that requests have named."""
        return self._seen_teams if self._teams is None else self._teams

    def add_team(self, name: str) -> None:
        """Add a team by its name, unless the teams were given."""
        if self._teams is None and name not in self._seen_teams.values():
            self._seen_teams[hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:7]] = name

    def check_team(self, team_id: str | None) -> None:
        """Check that a team exists; `None` stands for no team.

        Raises:
            Refused: with 404 if the teams were given and it is none of them.
        """
        if team_id is not None:
            if self._teams is None:
                self._seen_teams.setdefault(team_id, team_id)
            elif team_id not in self._teams:
                raise not_found("Team", team_id)

    def add_session(self, session_id: str) -> None:
        """Add a session with a given id, which belongs to no team."""
        self._ids.take(session_id)
        self._sessions[session_id] = None

    def create_session(self, team_id: str | None = None) -> str:
        """Open a session and return its id.

        Raises:
            Refused: with 404 if the team is unknown.
        """
        self.check_team(team_id)
        session_id = self._ids.new(7)
        self._sessions[session_id] = team_id
        return session_id

    def session(self, session_id: str) -> str:
        """Return the id of an existing session.

        Raises:
            Refused: with 404 if there is none.
        """
        if session_id not in self._sessions:
            raise not_found("Loops session", session_id)
        return session_id

    def check_session(self, session_id: str, team_id: str | None) -> None:
        """Check that something of a team (`None`: of no team) can be created in a session.

        A session that belongs to no team can be used for every team.

        Raises:
            Refused: with 404 if there is no such session, 403 if it belongs to another team.
        """
        self.check_team(team_id)
        if self._sessions[self.session(session_id)] not in {None, team_id}:
            raise Refused(403, "FORBIDDEN", f"Loops session {session_id!r} belongs to another team.")
