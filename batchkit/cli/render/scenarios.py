"""The emulator's scenarios and faults, as lists."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from batchkit.cli.render import console
from batchkit.emulator import fault_catalogue, fault_families, scenario_names
from batchkit.emulator.scenarios.scenario import load_scenario


def show_scenarios() -> None:
    """List the ready-made scenarios."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("scenario", no_wrap=True)
    table.add_column("what happens")
    for name in scenario_names():
        table.add_row(name, load_scenario(name).description)
    console.show(console.stdout(), table)


def show_faults() -> None:
    """List the faults by family, with their parameters; the parameters common to a family are in its heading."""
    out = console.stdout()
    catalogue = fault_catalogue()
    for family in fault_families():
        console.show(out, Text(f"{family.name}: {family.explanation}", "bold"))
        console.show(out, _parameters(family.parameters))
        console.show(out, Text())
        for fault in catalogue:
            if fault.family == family.name:
                own = {name: text for name, text in fault.parameters.items() if family.parameters.get(name) != text}
                for name in own.keys() & family.parameters.keys():
                    # Only the default differs: the heading has the meaning of the parameter.
                    own[name] = own[name].removeprefix(family.parameters[name].rpartition(" (")[0]).strip()
                console.show(out, Padding(Text(fault.name, "bold"), (0, 0, 0, 2), expand=False))
                console.show(out, Padding(Text(fault.explanation), (0, 0, 0, 4), expand=False))
                console.show(out, Padding(_parameters(own), (0, 0, 1, 2), expand=False))


def _parameters(meanings: dict[str, str]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="cyan")
    grid.add_column()
    for name, meaning in meanings.items():
        grid.add_row(f"  {name}", Text(meaning))
    return grid
