"""The command `doctor`: what this machine can run, and what to install for the rest."""

from segdeploy.cli import printing
from segdeploy.cli.options import Json


def doctor(json: Json = False) -> None:
    """Say what this machine can run, and what to install for the rest."""
    from segdeploy.cli.tables import ability_table, finding_table
    from segdeploy.doctor.abilities import judge_commands
    from segdeploy.doctor.findings import diagnose
    from segdeploy.doctor.machine import examine_machine

    findings = diagnose(examine_machine())
    abilities = judge_commands(findings)
    if json:
        from segdeploy.environment import describe_environment

        facts = {"environment": describe_environment().to_dict()}
        lines = {"findings": list(map(vars, findings)), "commands": list(map(vars, abilities))}
        printing.show_json({**facts, **lines})
    else:
        printing.show_table(finding_table(findings))
        printing.show_table(ability_table(abilities))
