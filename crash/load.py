"""Callers at work: sessions side by side, each a loop of turns that pay invoices with numbers of their own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from checks import Asked
from model import SEEN
from world import KINDS, VARIANTS, NotAnswered, Told, World, agent_for

_WEIGHTS = (6, 3, 1)
_TURNS_OF_A_SESSION = 20
_PAUSE_S = 0.1

Ask = Callable[[str, str, str, int], Told]


class Load:
    """Callers in threads of their own, until told to end."""

    def __init__(self, world: World, callers: int, seed: int, ask: Ask | None = None) -> None:
        """Describe them; `ask` is how they call: by default again and again until they are answered."""
        self.asked: list[Asked] = []
        self.wrong: list[str] = []
        self._ask = ask or world.ask
        self._seed = seed
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(callers)]

    def start(self) -> None:
        """Let them begin."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let every caller finish its turn, then ask every session something else."""
        self.leave()
        sessions = sorted({(agent_for(one.kind, one.variant), one.session) for one in self.asked})
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(self._ask_something_else, sessions))

    def leave(self) -> None:
        """Let every caller finish its turn."""
        self._ends.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _work(self, caller: int) -> None:
        chance, number = random.Random(f"{self._seed}/{caller}"), 0
        while not self._ends.is_set():
            kind, variant = chance.choices(KINDS, _WEIGHTS)[0], chance.choice(VARIANTS)
            session, invoice = f"s{caller}-{number // _TURNS_OF_A_SESSION}", f"{variant}-{caller}-{number}"
            told: Told | None = None
            try:
                told = self._ask(agent_for(kind, variant), session, f"{kind} {invoice}", chance.randrange(2))
            except NotAnswered as error:
                self.wrong.append(str(error))
            self.asked.append(Asked(kind, variant, session, invoice, told, f"seed {self._seed}, session {session}"))
            number += 1
            time.sleep(chance.uniform(0, 2 * _PAUSE_S))

    def _ask_something_else(self, session: tuple[str, str]) -> None:
        try:
            told = self._ask(*session, "What did we do?", 0)
        except NotAnswered as error:
            self.wrong.append(str(error))
            return
        if not told.text.startswith(SEEN):
            self.wrong.append(f"session {session} then said {told.text!r}")
