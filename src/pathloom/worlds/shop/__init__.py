"""World "shop": job shops, flexible and blocking shops, projects, and any scheduling problem in our own file."""

from pathloom.world import World

WORLD = World(
    name="shop",
    summary=(
        "Scheduling: job shops (JSPLIB, Taillard), flexible job shops (FJSPLIB), projects (PSPLIB .sm, .mm), or YAML "
        "and JSON with 'kind: shop'."
    ),
    recognise="pathloom.worlds.shop.files:recognise",
    load="pathloom.worlds.shop.files:load",
    check="pathloom.worlds.shop.check:check",
    methods={
        "auto": "pathloom.worlds.shop.methods:portfolio",
        "search": "pathloom.worlds.shop.methods:search",
        "cp-sat": "pathloom.worlds.shop.methods:constraint",
        "rules": "pathloom.worlds.shop.methods:rules",
        "learned": "pathloom.worlds.shop.learned:learned",
    },
    default_method="auto",
    default_table=("cp-sat", "rules"),
    columns=("objective", "bound", "gap", "found by", "seconds"),
    row="pathloom.worlds.shop.pictures:row",
    write="pathloom.worlds.shop.pictures:write",
    draw="pathloom.worlds.shop.pictures:draw",
    read_plan="pathloom.worlds.shop.files:read_plan",
    plan_format="pathloom-shop-plan-1",
    example="pathloom.worlds.shop.files:example",
    simulate="pathloom.worlds.shop.simulate:simulate_plan",
    trainers={
        "shop-dispatcher": "pathloom.worlds.shop.learned:train",
        "shop-floor": "pathloom.worlds.shop.online.training:train",
    },
    options={
        "blocking": "true: jobs stay on their machine until the next one is free (job shops)",
        "no_wait": "true: the tasks of a job follow each other without waiting (job shops)",
        "swap": "false: blocked jobs must not change places at one instant",
    },
    disturbances={
        "breakdown_chance": "chance that a working machine stops at an event (an operation ends, a job arrives)",
        "mean_time_between_failures": "of failures of each machine by the clock",
        "mean_repair": "mean time of a repair; that of an operation if left out",
        "repair": "fixed, geometric or exponential repair times",
        "after_repair": "resume: the operation goes on where it was; restart: it begins anew",
        "mean_time_between_arrivals": "jobs arrive one after another, in the order of the file",
    },
)
