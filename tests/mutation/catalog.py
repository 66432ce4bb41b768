"""The edits: textual, each in one place of a mind, each against a law or a rule of the design."""

from dataclasses import dataclass

GROUPWORK = "ocfs2_controld/groupwork.py"
CHANNEL = "ocfs2_controld/channel.py"
CHANGE = "ocfs2_controld/change.py"
TABLE = "ocfs2_controld/table.py"
MIND = "ocfs2_controld/mind.py"
LOCKS = "ocfs2_controld/locks.py"
USAGE = "ocfs2_controld/usage.py"
SESSIONS = "ocfs2_controld/sessions.py"
FENCING = "ocfs2_controld/fencing.py"
EXPLAIN = "ocfs2_controld/explain.py"
OUTS = "ocfs2_controld/outs.py"
NODES = "o2cb_controld/changes.py"
LEDGER = "o2cb_controld/ledger.py"
ENDING = "o2cb_controld/ending.py"
REASONS = "o2cb_controld/reasons.py"
O2MIND = "o2cb_controld/mind.py"
TOPOLOGY = "o2cb_controld/topology.py"


@dataclass(frozen=True, slots=True)
class Mutation:
    """One edit.

    Attributes:
        name: what is forgotten, in a few words joined by hyphens.
        against: the law or the rule that it breaks.
        file: of the tree.
        old: the text that is there, once.
        new: what takes its place.
    """

    name: str
    against: str
    file: str
    old: str
    new: str


def _m(name: str, against: str, file: str, old: str, new: str) -> Mutation:
    return Mutation(name, against, file, old, new)


MUTATIONS: tuple[Mutation, ...] = (
    _m(
        "remove-what-is-linked",
        "law 1",
        NODES,
        "(Node.LOOKING, Cue.LINKED): Move(_pin,",
        "(Node.LOOKING, Cue.LINKED): Move(_change,",
    ),
    _m(
        "look-before-the-lock",
        "law 1",
        NODES,
        "return replace(t.slot, phase=Node.LOCKING), (TryLock(t.slot.number),)",
        "name = _directory(t.need) or ''\n"
        "    looked = replace(t.slot, phase=Node.LOOKING, target=name)\n"
        "    return looked, (ListLinks(t.slot.number, name), TryLock(t.slot.number))",
    ),
    _m(
        "take-a-busy-lock-for-ours",
        "law 1",
        NODES,
        "        case LockBusy(number):\n            return tell(state, now, number, Cue.BUSY)",
        "        case LockBusy(number):\n            return tell(state, now, number, Cue.TAKEN)",
    ),
    _m(
        "grant-before-the-node-stands",
        "law 2",
        LEDGER,
        "if not difference.right(wanted):",
        "if False:",
    ),
    _m(
        "forget-to-queue",
        "law 3",
        NODES,
        "    slot = replace(t.slot, phase=Node.PINNED, cause=cause, look_at=t.now + LOOK_AGAIN)\n",
        "    return None, unlock\n"
        "    slot = replace(t.slot, phase=Node.PINNED, cause=cause, look_at=t.now + LOOK_AGAIN)\n",
    ),
    _m(
        "never-look-again",
        "law 3",
        NODES,
        "    for slot in state.slots:\n        if slot.phase in {Node.PINNED, Node.REFUSED} and slot.look_at <= now:",
        "    for slot in ():\n        if slot.phase in {Node.PINNED, Node.REFUSED} and slot.look_at <= now:",
    ),
    _m(
        "take-a-refusal-for-the-end",
        "law 3",
        NODES,
        "moves[s, Cue.FAILED] = Move(_refused, (Node.REFUSED,))",
        "moves[s, Cue.FAILED] = Move(_rest, (Node.REFUSED,))",
    ),
    _m(
        "keep-the-lock-after-a-change",
        "law 3",
        NODES,
        "    if isinstance(t.need, Nothing):\n        return None, (Unlock(t.slot.number),)\n    return _list(t)",
        "    if isinstance(t.need, Nothing):\n        return None, ()\n    return _list(t)",
    ),
    _m(
        "an-old-address-will-do",
        "law 4",
        TOPOLOGY,
        "s is not None and s.complete and s.identity == identity and s.local == is_local",
        "s is not None and s.complete and s.name == identity.name and s.local == is_local",
    ),
    _m(
        "grant-for-another-identity",
        "law 4",
        LEDGER,
        "    if wanted.key != asked.key:\n",
        "    if wanted.number != asked.number:\n",
    ),
    _m(
        "a-missing-engine-is-an-empty-one",
        "law 5",
        O2MIND,
        "engine = replace(state.engine, up=False, members=None, quorate=False, ring=None, reason=reason)",
        "engine = replace(state.engine, members=(), quorate=False, ring=None, reason=reason)\n"
        "    state, _ = _want(replace(state, engine=engine))",
    ),
    _m(
        "end-under-a-live-mount",
        "law 15",
        ENDING,
        "(e.INSPECTING, c.NEEDED): Move(_needed, (e.RUNNING,)),",
        "(e.INSPECTING, c.NEEDED): Move(_free, (e.RUNNING,)),",
    ),
    _m(
        "end-while-the-service-lock-is-held",
        "law 15",
        ENDING,
        "(e.CLAIMING, c.BUSY): Move(_busy, (e.RUNNING,)),",
        "(e.CLAIMING, c.BUSY): Move(_look, (e.RUNNING,)),",
    ),
    _m(
        "ready-before-the-tree-stands",
        "law 16",
        REASONS,
        "        if not passes:\n            return f",
        "        if False:\n            return f",
    ),
    _m(
        "o2cb-waits-in-silence",
        "law 17",
        O2MIND,
        "if wait.named != reason and now >= _named_at(wait, state.patience):",
        "if False:",
    ),
    _m(
        "never-give-up-emptying",
        "law 18",
        ENDING,
        "(e.EMPTYING, c.LATE): Move(_late, (e.RUNNING,)),",
        "(e.EMPTYING, c.LATE): Move(_wait, (e.RUNNING,)),",
    ),
    _m(
        "close-before-unlink",
        "law 1",
        LOCKS,
        "        if key not in wanted and not linked(t, key[0]):\n",
        "        if key not in wanted:\n",
    ),
    _m(
        "link-without-a-grant",
        "law 2",
        GROUPWORK,
        "    return here is not None and here.life == life and here.identity.key in state.locks.held\n",
        "    return here is not None and here.life == life\n",
    ),
    _m(
        "join-without-the-locks",
        "law 2",
        GROUPWORK,
        "if len(needs) >= expected and all(x.key in state.locks.held for x in needs):",
        "if len(needs) >= expected:",
    ),
    _m(
        "a-grant-of-any-request",
        "law 4",
        LOCKS,
        "    if identity is None or not wanted or identity.key in locks.held:\n        t.do(DropLock())",
        "    identity = identity or next(iter(_wanted(t).values()), None)\n"
        "    if identity is None or identity.key in locks.held:\n        t.do(DropLock())",
    ),
    _m(
        "keep-the-link-of-an-old-life",
        "law 4",
        GROUPWORK,
        "if n not in wanted or (life is not None and life != wanted[n])]",
        "if n not in wanted]",
    ),
    _m(
        "an-address-changes-in-a-start",
        "law 4",
        TABLE,
        "    return any(life in g.members or (life == g.joiner and g.phase is not Phase.LOCK) for g in groups)\n",
        "    return False\n",
    ),
    _m(
        "no-hint",
        "law 3",
        GROUPWORK,
        "        locks.hint(t, event.number)\n        t.needs_changed = True",
        "        t.needs_changed = True",
    ),
    _m(
        "drop-what-an-earlier-run-left",
        "law 5",
        USAGE,
        "    if not c.local.used:\n        _release(c)\n        return\n    c.become(Usage.USED)\n",
        "    _release(c)\n    return\n",
    ),
    _m(
        "run-on-when-a-member-is-lost",
        "law 6",
        CHANNEL,
        "        _halt_groups_of(t, m.node, cause)\n",
        "",
    ),
    _m(
        "run-on-without-quorum",
        "law 6",
        MIND,
        '        channel.halt_all(t, "quorum is lost")',
        "        pass",
    ),
    _m(
        "start-without-quorum",
        "law 6, condition quorum",
        GROUPWORK,
        "    if not state.good or state.table is None:\n        return False\n    return g.phase",
        "    if state.table is None:\n        return False\n    return g.phase",
    ),
    _m(
        "start-without-fencing",
        "law 6, condition fencing",
        GROUPWORK,
        "(not g.away and set(g.lost) <= set(state.table.fenced))",
        "not g.away",
    ),
    _m(
        "start-while-a-daemon-is-away",
        "law 8",
        GROUPWORK,
        "(not g.away and set(g.lost) <= set(state.table.fenced))",
        "set(g.lost) <= set(state.table.fenced)",
    ),
    _m(
        "quorum-of-another-ring",
        "rule ring",
        "ocfs2_controld/state.py",
        "return self.engine.up and self.engine.quorate and self.engine.ring == self.channel.ring is not None",
        "return self.engine.up and self.engine.quorate",
    ),
    _m(
        "the-ring-is-known-after-a-death",
        "rule ring",
        CHANNEL,
        "        ring=None if down else channel.ring,",
        "        ring=channel.ring,",
    ),
    _m(
        "an-old-start-is-answered-for-a-new-one",
        "law 7",
        TABLE,
        "if not isinstance(word, Started) or word.start != g.start or sender not in g.members:",
        "if not isinstance(word, Started) or sender not in g.members:",
    ),
    _m(
        "an-old-stop-is-answered-for-a-new-one",
        "law 7",
        TABLE,
        "    if not isinstance(word, Stopped) or word.start != g.start or sender not in g.members:\n"
        "        return g\n    return replace(g, answers",
        "    if not isinstance(word, Stopped) or sender not in g.members:\n"
        "        return g\n    return replace(g, answers",
    ),
    _m(
        "a-start-that-is-not-ours",
        "law 7",
        GROUPWORK,
        '            if local.started != g.start:\n                halt(t, fs, "the members change")\n',
        "",
    ),
    _m(
        "a-dead-daemon-is-a-dead-node",
        "law 8",
        CHANNEL,
        "        elif m.node != t.state.engine.local:\n            away = away.put(m.node, t.now)",
        "        elif m.node != t.state.engine.local:\n            away = away.without(m.node)",
    ),
    _m(
        "no-grace-for-a-dead-daemon",
        "law 8",
        MIND,
        "elif lowest and t.now >= since + state.settings.grace_seconds:",
        "elif lowest and t.now >= since:",
    ),
    _m(
        "the-recovered-go-on",
        "law 9, rule recovered",
        CHANNEL,
        "    if t.state.me in outcome.put_out:\n",
        "    if False:\n",
    ),
    _m(
        "answered-before-the-finish",
        "law 10",
        GROUPWORK,
        "if inside and g.phase not in (Phase.START, Phase.RECOVER) and local.running",
        "if state.me in g.members and local.running",
    ),
    _m(
        "zero-for-an-elder-start",
        "rule own",
        GROUPWORK,
        "    if inside and g.phase not in (Phase.START, Phase.RECOVER) and local.running and local.started == g.start:",
        "    if inside and g.phase not in (Phase.START, Phase.RECOVER):",
    ),
    _m(
        "fence-by-clock",
        "law 11",
        FENCING,
        "    a.put(phase=FencePhase.RUNNING, attempts=attempt)\n",
        '    a.put(phase=FencePhase.DONE, attempts=attempt, text="by now it must be off")\n',
    ),
    _m(
        "a-failed-fence-is-a-fence",
        "law 11",
        FENCING,
        "(_P.RUNNING, _D.FAILURE): Move(_retry, (_P.FAILED,)),",
        "(_P.RUNNING, _D.FAILURE): Move(_off, (_P.FAILED,)),",
    ),
    _m(
        "the-unseen-are-dead",
        "law 11",
        CHANGE,
        "        unseen = doubted = _unknown(absent)\n",
        "        unseen = doubted = set()\n",
    ),
    _m(
        "no-doubt",
        "rule doubt",
        CHANGE,
        "(_unknown(absent) if s.doubt else set())",
        "set()",
    ),
    _m(
        "no-doubt-of-two-nodes",
        "rule doubt",
        CHANGE,
        "    return absent > 0 if two_node else 2 * absent > len(every)\n",
        "    return 2 * absent > len(every)\n",
    ),
    _m(
        "a-joiner-is-reset",
        "rule requeue",
        CHANGE,
        "        elif claims[x].inside is Inside.MEMBER:\n",
        "        else:\n",
    ),
    _m(
        "a-newcomer-may-expel",
        "law 13",
        CHANNEL,
        "    if _settled(t.state, word.member) and not _settled(t.state, sender):\n",
        "    if False:\n",
    ),
    _m(
        "a-first-mounter-does-not-wait",
        "rule first",
        TABLE,
        "        old = Group(lost=table.unseen, phase=Phase.RECOVER)",
        "        old = Group()",
    ),
    _m(
        "a-statement-of-another-view",
        "rule view",
        CHANNEL,
        "    if view is None or s.view != view or sender",
        "    if view is None or sender",
    ),
    _m(
        "words-of-another-change",
        "rule tag",
        CHANNEL,
        "    if change is None or change != state.channel.change or state.table is None:",
        "    if change is None or state.table is None:",
    ),
    _m(
        "any-table-wins",
        "rule winner",
        CHANGE,
        "key=lambda x: (_rank(x[0], x[1], fs), _stake(x[0], fs), -x[0].life.node)",
        "key=lambda x: -x[0].life.node",
    ),
    _m(
        "of-equal-tables-the-lowest-nodes",
        "law 6",
        CHANGE,
        "(_rank(x[0], x[1], fs), _stake(x[0], fs), -x[0].life.node)",
        "(_rank(x[0], x[1], fs), -x[0].life.node)",
    ),
    _m(
        "a-restarted-daemon-was-never-away",
        "rule fresh",
        CHANGE,
        "    fresh = any(x in known.said and known.said[x].table is None for x in after.members)\n",
        "    fresh = False\n",
    ),
    _m(
        "a-joiner-without-a-table",
        "rule fresh",
        CHANGE,
        "    if joiner is not None and (joiner not in known.said or known.said[joiner].table is None):",
        "    if joiner is not None and joiner not in known.said:",
    ),
    _m(
        "the-stopped-are-not-started",
        "rule restart",
        CHANGE,
        "    if stopped:\n",
        "    if False:\n",
    ),
    _m(
        "who-is-stopped-alone-says-nothing",
        "rule restart",
        GROUPWORK,
        "            t.say(Stopped(fs, g.start))\n        case _:\n",
        "            pass\n        case _:\n",
    ),
    _m(
        "a-join-goes-on-through-a-death",
        "rule requeue",
        CHANGE,
        "        unanswered = [x for x in after.members if x in claims and claims[x].inside is Inside.JOINING]\n",
        "        unanswered: list[Life] = []\n",
    ),
    _m(
        "a-joiner-is-no-member-yet",
        "rule joinfence",
        CHANGE,
        "    for x in (*g.members, *g.lost):\n        statement = known.said.get(x)\n",
        "    for x in (*(m for m in g.members if m != g.joiner), *g.lost):\n        statement = known.said.get(x)\n",
    ),
    _m(
        "nobody-starts-without-the-leaver",
        "rule gone",
        TABLE,
        "        joiner=None if sender == g.joiner else g.joiner,\n        gone=True,\n",
        "        joiner=None if sender == g.joiner else g.joiner,\n",
    ),
    _m(
        "stated-before-the-stop",
        "rule stopped",
        CHANNEL,
        '        halt_all(t, "the other nodes could have had a quorum without this one")',
        "        pass",
    ),
    _m(
        "the-fences-are-not-merged",
        "rule table",
        CHANGE,
        "        fenced = {x for _, t in speakers for x in t.fenced}\n",
        "        fenced = set(tables[0][1].fenced)\n",
    ),
    _m(
        "nobody-is-put-out-for-its-statement",
        "rule expel",
        MIND,
        "        if m not in state.channel.statements:\n            channel.expel",
        "        if False:\n            channel.expel",
    ),
    _m(
        "nobody-is-put-out-for-its-answer",
        "rule expel",
        GROUPWORK,
        "        if life not in g.answers and life != me and here is not None and here.life == life:",
        "        if False:",
    ),
    _m(
        "fence-a-node-that-is-coming-up",
        "law 11",
        FENCING,
        "        due = max(due, state.engine.appeared.get(life.node, now) + state.settings.grace_seconds)",
        "        pass",
    ),
    _m(
        "everybody-fences",
        "law 11",
        "ocfs2_controld/state.py",
        "return self.complete and self.good and self.actor == self.engine.local",
        "return self.complete",
    ),
    _m(
        "a-fence-begins-unsaid",
        "law 11",
        FENCING,
        "(_P.WAITING, _D.DUE): Move(_announce, (_P.ANNOUNCED, _P.DONE)),",
        "(_P.WAITING, _D.DUE): Move(_begin, (_P.ANNOUNCED, _P.DONE)),",
    ),
    _m(
        "no-look-before-the-device-acts",
        "law 11",
        FENCING,
        "            due = due_at(state, life, t.now)\n            if due <= t.now and",
        "            due = t.now\n            if due <= t.now and",
    ),
    _m(
        "two-devices-act-on-one-life",
        "law 11",
        FENCING,
        "    return by not in (NOBODY, state.member)\n",
        "    return False\n",
    ),
    _m(
        "who-began-a-fence-is-for-ever",
        "law 11",
        CHANGE,
        "min(found & {*view.members}, default=NOBODY)",
        "min(found)",
    ),
    _m(
        "who-is-being-fenced-goes-on",
        "rule winner",
        CHANGE,
        "        return life in self.begun or Life(life.node, UNKNOWN_BOOT) in self.begun\n",
        "        return False\n",
    ),
    _m(
        "a-fence-that-failed-goes-on",
        "law 11",
        FENCING,
        "        case FencePhase.FAILED if heard:\n",
        "        case FencePhase.FAILED if False:\n",
    ),
    _m(
        "the-engine-puts-nobody-out",
        "rule expel",
        CHANNEL,
        "    for node in go:\n",
        "    for node in ():\n",
    ),
    _m(
        "everybody-puts-out",
        "rule expel",
        CHANNEL,
        "    if not state.outs or not state.acts:\n        return\n    go,",
        "    go,",
    ),
    _m(
        "the-engine-takes-the-quorum-away",
        "rule expel",
        OUTS,
        "    spare = max(0, stay + len(waiting) - needed)\n",
        "    spare = len(waiting)\n",
    ),
    _m(
        "a-newcomer-puts-out-all-others",
        "law 13",
        CHANNEL,
        "    if t.state.table is None:\n        why",
        "    if False:\n        why",
    ),
    _m(
        "a-refused-join-goes-on",
        "rule refuse",
        TABLE,
        "    if not isinstance(word, Refuse) or word.joiner != g.joiner or sender not in (*g.members, g.joiner):\n"
        "        return g\n",
        "    return g\n",
    ),
    _m(
        "a-silent-client-has-not-mounted",
        "law 12",
        USAGE,
        "    if local.mount_points and local.service in (*local.mount_points, MOUNT_SERVICE):\n"
        "        _add_service(c, local.service, session)\n    c.become(Usage.USED, connection=None)\n",
        "    c.become(Usage.USED, connection=None)\n    c.turn.put_local(c.fs, mount_points=())\n",
    ),
    _m(
        "a-silent-unmount-is-not-seen",
        "law 12",
        MIND,
        "        elif was and not points:\n            happen(Happening.MOUNT_GONE, Call(t, fs))",
        "        elif was and not points:\n            pass",
    ),
    _m(
        "leave-while-the-device-is-busy",
        "law 12",
        MIND,
        "happen(Happening.FREE if event.free else Happening.BUSY,",
        "happen(Happening.FREE,",
    ),
    _m(
        "a-garbled-peer-is-passed-over",
        "law 13",
        CHANNEL,
        "    elif view is not None and event.sender in view.members:\n        expel",
        "    elif False:\n        expel",
    ),
    _m(
        "garbage-is-not-answered",
        "law 13",
        SESSIONS,
        '        self.turn.do(log(Event.VIOLATION, "warning", peer=f"pid {self.session.peer.pid}", cause=text))\n'
        "        self.answer(code, text)",
        '        self.turn.do(log(Event.VIOLATION, "warning", peer=f"pid {self.session.peer.pid}", cause=text))',
    ),
    _m(
        "anybody-may-mount",
        "law 14",
        SESSIONS,
        "_CHANGES = frozenset({Request.MOUNT, Request.RESULT, Request.UNMOUNT, Request.FENCED, Request.REPLACE})",
        "_CHANGES = frozenset({Request.REPLACE})",
    ),
    _m(
        "a-signal-ends-it",
        "law 15",
        MIND,
        '    if t.state.locals:\n        t.count("signals_refused")',
        '    if False:\n        t.count("signals_refused")',
    ),
    _m(
        "the-engine-may-go",
        "law 15",
        MIND,
        "allow, why = not t.state.locals,",
        "allow, why = True,",
    ),
    _m(
        "ready-before-the-first-change",
        "law 16",
        MIND,
        '    why = "" if state.table is not None else',
        '    why = "" if state.engine.up else',
    ),
    _m(
        "ocfs2-waits-in-silence",
        "law 17",
        MIND,
        "        if any(isinstance(event, Tick) for event in events):\n            _name_waits(t)",
        "",
    ),
    _m(
        "no-deadline",
        "law 18",
        GROUPWORK,
        "        if local.deadline is not None and local.deadline <= t.now:\n"
        "            happen(Happening.DEADLINE, Call(t, fs))\n",
        "",
    ),
    _m(
        "a-leave-waits-for-the-recovery",
        "law 18",
        TABLE,
        "Heard.LEAVE: dict.fromkeys(_ALL, (_leave, ())),",
        "Heard.LEAVE: {**dict.fromkeys(_ALL, (_leave, ())), Phase.RECOVER: (_stale, ())},",
    ),
    _m(
        "the-put-out-stay-up",
        "law 21",
        CHANNEL,
        "        t.do(PowerOff(cause))\n",
        "        t.do(LeaveChannel(), Exit(1, cause))\n",
    ),
)
