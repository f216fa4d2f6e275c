"""h2's side of an HTTP/2 connection as this server wants it: how much a peer may send, and what a goodbye ends.

`http2.Http2Protocol` has one per connection. The numbers bound what a peer can make this server hold.
"""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection, H2ConnectionStateMachine
from h2.events import Event
from h2.settings import SettingCodes, Settings

STREAMS = 100
"""Requests that one connection may have open at once."""
RUNNING = 2 * STREAMS
"""Requests that may be worked on for one connection, with those that it has already given up."""
STREAM_WINDOW = 1_048_576
"""Bytes of a request body that may come before the application has read any."""
CONNECTION_WINDOW = 4 * STREAM_WINDOW
"""Bytes of all its request bodies that a connection may have waiting.

The streams share it: 100 windows of 1 MiB promise 100 MiB, but no more than 4 MiB can lie unread, whatever the streams.
What the application has read is given back to the peer, and counts towards `most_body_bytes_at_once` from then on.
"""


class _StateMachine(H2ConnectionStateMachine):
    """A GOAWAY ends nothing that is under way: it only says that no requests follow. h2 alone would end everything.

    Node sends one as soon as AWS's SDK has the head of an event stream, and reads the stream afterwards.

    Source: RFC 9113 6.8.
    """

    def process_input(self, input_: ConnectionInputs) -> list[Event]:
        if input_ in (ConnectionInputs.RECV_GOAWAY, ConnectionInputs.SEND_GOAWAY):
            return []
        return super().process_input(input_)


class ServerConnection(H2Connection):
    """The server's side of a connection, with this server's settings."""

    def __init__(self) -> None:
        """Stand ready for a client's preface."""
        super().__init__(H2Configuration(client_side=False))
        self.state_machine = _StateMachine()
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: self.DEFAULT_MAX_HEADER_LIST_SIZE,
            },
        )

    def clear_outbound_data_buffer(self) -> None:
        """Keep what is to be sent: h2 would drop it at a GOAWAY."""
