"""Robot cells: transfer robots that carry items between ports, process stations and buffers.

The problem and the approach are those of H. Lee, C. Kim, M. Kim, "Reinforcement learning of display transfer robots in
glass flow control systems: a physical simulation-based approach" (arXiv 2310.07981, 2023): a simulated robot with real
speeds, and a policy learned in it that takes the place of hand-written flow control. The paper publishes neither code
nor parameters; cells, rules and figures here are our own.
"""

from pathloom.world import World

WORLD = World(
    name="cell",
    summary="Robot cells: YAML or JSON with 'kind: robot-cell'.",
    recognise="pathloom.worlds.shop.cells.files:recognise",
    load="pathloom.worlds.shop.cells.files:load_cell",
    check="pathloom.worlds.shop.cells.check:check_cell",
    methods={
        "rules": "pathloom.worlds.shop.cells.rules:rules",
        "cycle": "pathloom.worlds.shop.cells.cycles:cycle",
        "learned": "pathloom.worlds.shop.cells.learned:learned",
    },
    default_method="rules",
    default_table=("cycle", "learned"),
    columns=("time per item", "bound", "gap", "items per hour", "limits broken", "seconds"),
    row="pathloom.worlds.shop.cells.pictures:cell_row",
    write="pathloom.worlds.shop.cells.pictures:write_cell",
    read_plan="pathloom.worlds.shop.cells.files:read_cell_plan",
    plan_format="pathloom-cell-plan-1",
    example="pathloom.worlds.shop.cells.files:example",
    trainers={"robot-cell": "pathloom.worlds.shop.cells.learned:train"},
)
