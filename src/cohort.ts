/** The patients of an export at Patient level with `patients`, or at Group level. It is written once, before the
 *  plan. */
export interface Cohort {
  v: 1;
  uid: string;
  /** ids, sorted */
  patients: string[];
  /** ids of the Group and of the Groups nested in it, sorted */
  groups: string[];
}
