"""World "train": pipelines that train language models on unequal nodes over slow networks."""

from pathloom.world import World

_HERE = "pathloom.worlds.train"

WORLD = World(
    name="train",
    summary="Pipeline-parallel training over a wide-area network: YAML with nodes, links, model and stages.",
    recognise=f"{_HERE}.files:recognise",
    load=f"{_HERE}.files:load",
    check=f"{_HERE}.check:check",
    methods={
        "pathloom": f"{_HERE}.route_search:pathloom",
        "skippipe": f"{_HERE}.skippipe:skippipe",
        "skippipe-no-tc2": f"{_HERE}.skippipe:skippipe_no_tc2",
        "skippipe-coarse": f"{_HERE}.skippipe:skippipe_coarse",
        "greedy": f"{_HERE}.greedy:greedy",
        "dtfm-skip": f"{_HERE}.random_skips:random_skips",
        "dtfm": f"{_HERE}.full_pipelines:dtfm",
        "gpipe": f"{_HERE}.full_pipelines:gpipe",
        "1f1b": f"{_HERE}.full_pipelines:one_f_one_b",
        "interleaved-1f1b": f"{_HERE}.full_pipelines:interleaved",
        "zb-h1": f"{_HERE}.full_pipelines:zb_h1",
    },
    default_method="pathloom",
    default_table=("skippipe", "greedy", "dtfm-skip", "dtfm", "gpipe", "1f1b", "interleaved-1f1b", "zb-h1"),
    columns=(
        "stages run",
        "iteration time",
        "bubble share",
        "busiest node",
        "lower bound",
        "proven gap",
        "planning time",
    ),
    row=f"{_HERE}.method_table:row",
    write=f"{_HERE}.pictures:write",
    read_plan=f"{_HERE}.plan_files:read_plan",
    plan_format="pathloom-train-plan-1",
    example=f"{_HERE}.files:example",
    bound=f"{_HERE}.method_table:bound_for",
    draw=f"{_HERE}.pictures:draw",
    simulate=f"{_HERE}.faults:simulate_plan",
    run=f"{_HERE}.runtime.run:run_plan",
    profile=f"{_HERE}.runtime.profiler:profile_file",
    losses=f"{_HERE}.runtime.run_pictures:loss_curves",
    phase_errors=f"{_HERE}.runtime.phase_errors:table",
    rank=10,
)
