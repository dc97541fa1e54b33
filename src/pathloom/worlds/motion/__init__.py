"""World "motion": robots on a grid that must not collide."""

from pathloom.world import World

WORLD = World(
    name="motion",
    summary="Multi-agent path finding on grid maps: MovingAI scenarios (.scen), or YAML with 'kind: grid'.",
    recognise="pathloom.worlds.motion.files:recognise",
    load="pathloom.worlds.motion.files:load",
    check="pathloom.worlds.motion.check:check",
    methods={
        "conflict-based": "pathloom.worlds.motion.conflict_based:conflict_based",
        "prioritised": "pathloom.worlds.motion.prioritised:prioritised",
    },
    default_method="conflict-based",
    default_table=("prioritised",),
    columns=("sum of costs", "bound", "gap", "makespan", "seconds"),
    row="pathloom.worlds.motion.pictures:row",
    write="pathloom.worlds.motion.pictures:write",
    read_plan="pathloom.worlds.motion.files:read_plan",
    plan_format="pathloom-motion-plan-1",
    example="pathloom.worlds.motion.files:example",
    options={"agents": "how many agents of a scenario to take, the first ones (20 if not said)"},
)
